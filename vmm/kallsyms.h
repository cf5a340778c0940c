// SPDX-License-Identifier: Apache-2.0
//
// The table of symbols that a kernel carries in its read-only data for its own messages (kallsyms,
// scripts/kallsyms.c of the kernel): a stripped image still has it. No header marks the table, so
// Find() searches for its parts and takes only what fits together:
//
//   num_syms       u32
//   names          num_syms times: length (one byte, or two from 128 on), then as many tokens
//   markers        u32 for each 256 names: where they begin in `names`
//   seqs_of_names  u24 for each name: only in 6.2, 6.3 and updates of 6.1
//   token_table    256 strings, each ended by NUL; characters that occur stand for themselves
//   token_index    u16 for each token: where it begins in `token_table`
//
// The addresses (`offsets`, s32 for each name) stand in one of three ways:
//
//   before 6.4     before num_syms, then relative_base (u64)
//   from 6.4 on    behind token_index, then relative_base (u64)
//   from 7.0 on    behind token_index, each relative to its own address
//
// The bytes are untrusted: each offset is checked, and time and memory are bounded. Pure, any
// thread.

#ifndef KTSTR_VMM_KALLSYMS_H_
#define KTSTR_VMM_KALLSYMS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ktstr::vmm {

class Kallsyms {
 public:
  struct Entry {
    uint64_t address;
    size_t place;  // For Name().
  };
  // Find() looks at no more names than this; a kernel has about 2^18.
  static constexpr uint64_t kMaxLooks = uint64_t{1} << 25;
  // `bytes`: a segment of the kernel image that is loaded at `address`; it must outlive the result.
  // The kernel occupies the addresses from `low` to `high`. `looked_at`, unless null: how many
  // names Find() has looked at.
  static std::optional<Kallsyms> Find(std::string_view bytes, uint64_t address, uint64_t low,
                                      uint64_t high, uint64_t* looked_at = nullptr);

  // By ascending address; those outside of the kernel (older kernels: per-CPU data) are left out.
  const std::vector<Entry>& entries() const { return entries_; }
  // The letter of the type as nm prints it, then the name: "Tdo_idle". Empty when it is too long or
  // not printable.
  std::string Name(size_t place) const;
  // Functions have 't', 'T', 'w', or 'W'. NUL for a damaged name.
  char Type(size_t place) const;

 private:
  friend class KallsymsFinder;
  Kallsyms() = default;
  std::string_view Token(uint8_t token) const;

  std::string_view bytes_;
  std::array<size_t, 256> tokens_ = {};  // Where each begins.
  std::vector<Entry> entries_;
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_KALLSYMS_H_
