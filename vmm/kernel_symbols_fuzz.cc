// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a kernel image: its symbols are found or not, in bounded memory, and every name is
// printable.
#include <cstddef>
#include <cstdint>
#include <string>

#include "vmm/kernel_symbols.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kBase = 0xffffffff81000000;
  const auto symbols =
      ktstr::vmm::KernelSymbols::Parse(std::string(reinterpret_cast<const char*>(data), size));
  for (uint64_t address = kBase; address < kBase + 0x2000; address += 0x33) {
    for (const char c : symbols.At(address)) {
      if (c <= ' ' || c >= 0x7f) __builtin_trap();
    }
  }
  return 0;
}
