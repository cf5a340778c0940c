// SPDX-License-Identifier: Apache-2.0
#include "base/page_digest.h"

#include <cstring>

namespace ktstr::base {
namespace {

// Compares the page with itself, shifted: one pass by memcmp's vector code.
bool IsZero(const char* page, uint64_t bytes) {
  return bytes == 0 || (page[0] == 0 && std::memcmp(page, page + 1, bytes - 1) == 0);
}

}  // namespace

bool PageDigest::Add(uint64_t index, const void* page, uint64_t bytes) {
  if (IsZero(static_cast<const char*>(page), bytes)) return false;
  uint8_t label[8];
  for (int byte = 0; byte < 8; ++byte) label[byte] = static_cast<uint8_t>(index >> (8 * byte));
  sha_.Update(label, sizeof(label));
  sha_.Update(page, bytes);
  return true;
}

}  // namespace ktstr::base
