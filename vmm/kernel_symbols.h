// SPDX-License-Identifier: Apache-2.0
//
// Which function of a kernel is at an address: for messages only. From the uncompressed image that
// the guest boots, by its symbol table (.symtab) where it has one, else by its kallsyms. The guest
// has the addresses of the image (nokaslr). The image is untrusted: what cannot be read has no
// symbols, which is no error. Const methods: any thread.

#ifndef KTSTR_VMM_KERNEL_SYMBOLS_H_
#define KTSTR_VMM_KERNEL_SYMBOLS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/kallsyms.h"

namespace ktstr::vmm {

class KernelSymbols {
 public:
  // Has none.
  KernelSymbols() = default;
  // The file is read whole; its offset stays. None of a file above 512 MiB.
  static KernelSymbols Read(int image_fd);
  static KernelSymbols Parse(std::string image);

  // "do_idle+0x4f"; empty for an address outside of the kernel's functions. A name above 128 bytes
  // is cut.
  std::string At(uint64_t address) const;
  size_t size() const { return symbols_.size(); }

 private:
  struct Symbol {
    uint64_t address;
    size_t place;  // Of the name: in the image, or for `kallsyms_`.
    bool code;
    bool function;  // Preferred among symbols of one address.
  };
  struct Elf;
  void TakeSymbolTable(const Elf& elf);
  void TakeKallsyms(const Elf& elf);
  std::string NameOf(const Symbol& symbol) const;

  std::unique_ptr<const std::string> image_;
  std::optional<Kallsyms> kallsyms_;
  std::vector<Symbol> symbols_;  // Ascending.
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_KERNEL_SYMBOLS_H_
