// SPDX-License-Identifier: Apache-2.0
#include "vmm/digest.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/sha256.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kPiece = 64 * kPageSize;

bool IsZero(const uint8_t* page) {
  // Compares the page with itself, shifted: one pass by memcmp's vector code.
  return page[0] == 0 && std::memcmp(page, page + 1, kPageSize - 1) == 0;
}

void AddPages(const uint8_t* data, uint64_t first_page, uint64_t count, base::Sha256* sha) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint8_t* page = data + i * kPageSize;
    if (IsZero(page)) continue;
    const uint64_t index = first_page + i;
    uint8_t label[8];
    for (int byte = 0; byte < 8; ++byte) label[byte] = static_cast<uint8_t>(index >> (8 * byte));
    sha->Update(label, sizeof(label));
    sha->Update(page, kPageSize);
  }
}

}  // namespace

absl::StatusOr<std::string> DigestOf(GuestMemory& memory) {
  KTSTR_ASSIGN_OR_RETURN(const std::vector<GuestMemory::Extent> extents, memory.Extents());
  base::Sha256 sha;
  std::vector<uint8_t> buffer(kPiece);
  for (const GuestMemory::Extent& extent : extents) {
    for (uint64_t done = 0; done < extent.size; done += kPiece) {
      const uint64_t piece = std::min(kPiece, extent.size - done);
      const uint64_t offset = extent.offset + done;
      KTSTR_RETURN_IF_ERROR(memory.Read(offset, buffer.data(), piece));
      AddPages(buffer.data(), offset / kPageSize, piece / kPageSize, &sha);
    }
  }
  return sha.FinishHex();
}

}  // namespace ktstr::vmm
