// SPDX-License-Identifier: Apache-2.0
//
// Where a guest's RAM is in its physical address space, for every engine and every size of guest.
// RAM offsets count the nodes' memory one after the other; one node may lie on both sides of the
// hole.
//
// clang-format off
//   RAM offset         physical address
//   0                  0
//   :  low RAM         :
//   2 GiB              2 GiB            ACPI tables and initramfs end below it, or below the end of
//   :                                   a smaller guest
//   :                  (devices)
//   :
//   2 GiB              4 GiB
//   :  high RAM        :
//   size               size + 2 GiB
// clang-format on
//
// QEMU's q35 by itself ends low RAM at 2 GiB only for guests of 2.75 GiB (0xb0000000) and more, and
// puts all RAM of smaller ones below it (hw/i386/pc_q35.c). Its property max-ram-below-4g makes it
// keep this map instead (qemu/argv.cc).

#ifndef KTSTR_VMM_MEMORY_MAP_H_
#define KTSTR_VMM_MEMORY_MAP_H_

#include <algorithm>
#include <cstdint>
#include <optional>

namespace ktstr::vmm {

inline constexpr uint64_t kMaxLowRam = uint64_t{2} << 30;
inline constexpr uint64_t kHighRamAddress = uint64_t{4} << 30;

// End of low RAM of a guest with `size` bytes of RAM.
constexpr uint64_t LowRamEnd(uint64_t size) { return std::min(size, kMaxLowRam); }

// Physical address of a byte of RAM; `offset` below the guest's size.
constexpr uint64_t AddressOfRam(uint64_t offset) {
  return offset < kMaxLowRam ? offset : offset - kMaxLowRam + kHighRamAddress;
}

// RAM offset of a physical address; nullopt when a guest of `size` bytes has no RAM there.
constexpr std::optional<uint64_t> RamAtAddress(uint64_t address, uint64_t size) {
  if (address < LowRamEnd(size)) return address;
  if (address < kHighRamAddress || size <= kMaxLowRam) return std::nullopt;
  const uint64_t offset = address - kHighRamAddress + kMaxLowRam;
  return offset < size ? std::optional<uint64_t>(offset) : std::nullopt;
}

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_MEMORY_MAP_H_
