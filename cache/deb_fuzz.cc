// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a Debian package: an answer or an error, in bounded memory.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cache/deb.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kMaxImage = 1 << 20;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto deb = ktstr::cache::ReadDebFromMemory(bytes, "fuzz.deb", kMaxImage);
  if (deb.ok() && deb->image.size() > kMaxImage) __builtin_trap();
  return 0;
}
