// SPDX-License-Identifier: Apache-2.0
//
// Reads any bytes as a kernel package: a result or an error, in bounded memory.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cache/kernel_package.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kMaxImage = 1 << 20;
  ktstr::cache::MemorySource file(std::string_view(reinterpret_cast<const char*>(data), size));
  auto package = ktstr::cache::ReadKernelPackage(&file, "fuzz", kMaxImage);
  if (package.ok() && package->image.size() > kMaxImage) __builtin_trap();
  return 0;
}
