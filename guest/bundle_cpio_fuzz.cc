// SPDX-License-Identifier: Apache-2.0
//
// The bundle reader with any bytes: it returns, and its entries lie inside the archive.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "guest/cpio.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view archive(reinterpret_cast<const char*>(data), size);
  auto entries = ktstr::guest::ParseCpio(archive);
  if (!entries.ok()) return 0;
  for (const ktstr::guest::CpioEntry& entry : *entries) {
    if (entry.name.empty() || entry.name.front() == '/' || entry.permissions > 0777) abort();
    if (entry.data.data() < archive.data() ||
        entry.data.data() + entry.data.size() > archive.data() + size)
      abort();
  }
  return 0;
}
