// SPDX-License-Identifier: Apache-2.0
#include "vmm/digest.h"

#include <algorithm>
#include <vector>

#include "base/page_digest.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kPiece = 64 * kPageSize;

}  // namespace

absl::StatusOr<std::string> DigestOf(GuestMemory& memory) {
  KTSTR_ASSIGN_OR_RETURN(const std::vector<GuestMemory::Extent> extents, memory.Extents());
  base::PageDigest digest;
  std::vector<uint8_t> buffer(kPiece);
  for (const GuestMemory::Extent& extent : extents) {
    for (uint64_t done = 0; done < extent.size; done += kPiece) {
      const uint64_t piece = std::min(kPiece, extent.size - done);
      const uint64_t offset = extent.offset + done;
      KTSTR_RETURN_IF_ERROR(memory.Read(offset, buffer.data(), piece));
      for (uint64_t at = 0; at < piece; at += kPageSize)
        digest.Add((offset + at) / kPageSize, buffer.data() + at);
    }
  }
  return digest.FinishHex();
}

}  // namespace ktstr::vmm
