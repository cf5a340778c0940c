// SPDX-License-Identifier: Apache-2.0
//
// Decodes any bytes as a kernel image, an ELF file and BTF: a result or an error, in bounded
// memory.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cache/btf.h"
#include "cache/elf_image.h"
#include "cache/kernel_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kMaxVmlinux = 1 << 20;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  ktstr::cache::DecodeKernel(bytes, kMaxVmlinux).status().IgnoreError();
  ktstr::cache::BtfHasStruct(bytes, "sched_ext_ops").status().IgnoreError();
  if (auto elf = ktstr::cache::ElfImage::Parse(bytes); elf.ok()) {
    for (const auto& note : elf->Notes()) {
      if (note.owner.size() > size || note.description.size() > size) __builtin_trap();
    }
  }
  return 0;
}
