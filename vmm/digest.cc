// SPDX-License-Identifier: Apache-2.0
#include "vmm/digest.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/page_digest.h"
#include "base/sha256.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kBlock = uint64_t{4} << 20;
constexpr uint64_t kPiece = 64 * kPageSize;

// The parts of one block that may hold something other than zeros.
struct Block {
  uint64_t index = 0;
  std::vector<GuestMemory::Extent> extents;
  std::string digest;  // Empty: all zeros.
};

std::vector<Block> Divide(const std::vector<GuestMemory::Extent>& extents) {
  std::vector<Block> blocks;
  for (GuestMemory::Extent extent : extents) {
    while (extent.size > 0) {
      const uint64_t index = extent.offset / kBlock;
      const uint64_t size = std::min(extent.size, (index + 1) * kBlock - extent.offset);
      if (blocks.empty() || blocks.back().index != index) blocks.push_back({.index = index});
      blocks.back().extents.push_back({extent.offset, size});
      extent.offset += size;
      extent.size -= size;
    }
  }
  return blocks;
}

absl::Status Take(GuestMemory& memory, std::vector<uint8_t>& buffer, Block& block) {
  base::PageDigest digest;
  bool counts = false;
  for (const GuestMemory::Extent& extent : block.extents) {
    for (uint64_t done = 0; done < extent.size; done += kPiece) {
      const uint64_t piece = std::min(kPiece, extent.size - done);
      const uint64_t offset = extent.offset + done;
      KTSTR_RETURN_IF_ERROR(memory.Read(offset, buffer.data(), piece));
      for (uint64_t at = 0; at < piece; at += kPageSize) {
        counts |= digest.Add((offset + at) / kPageSize, buffer.data() + at);
      }
    }
  }
  if (counts) block.digest = digest.FinishHex();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> DigestOf(GuestMemory& memory) {
  KTSTR_ASSIGN_OR_RETURN(const std::vector<GuestMemory::Extent> extents, memory.Extents());
  std::vector<Block> blocks = Divide(extents);
  std::atomic<size_t> next = 0;
  const auto work = [&]() -> absl::Status {
    std::vector<uint8_t> buffer(kPiece);
    for (size_t i = next++; i < blocks.size(); i = next++) {
      KTSTR_RETURN_IF_ERROR(Take(memory, buffer, blocks[i]));
    }
    return absl::OkStatus();
  };
  std::future<absl::Status> other = std::async(std::launch::async | std::launch::deferred, work);
  const absl::Status here = work();
  KTSTR_RETURN_IF_ERROR(other.get());
  KTSTR_RETURN_IF_ERROR(here);
  base::Sha256 whole;
  for (const Block& block : blocks) {
    if (!block.digest.empty()) whole.Update(absl::StrCat(block.index, " ", block.digest, "\n"));
  }
  return whole.FinishHex();
}

}  // namespace ktstr::vmm
