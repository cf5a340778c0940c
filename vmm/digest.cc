// SPDX-License-Identifier: Apache-2.0
#include "vmm/digest.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/sha256.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kPage = 4096;

bool IsZero(const uint8_t* page) {
  // Compares the page with itself, shifted: one pass by memcmp's vector code.
  return page[0] == 0 && std::memcmp(page, page + 1, kPage - 1) == 0;
}

void AddPages(const uint8_t* data, uint64_t first_page, uint64_t count, base::Sha256* sha) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint8_t* page = data + i * kPage;
    if (IsZero(page)) continue;
    const uint64_t index = first_page + i;
    uint8_t label[8];
    for (int byte = 0; byte < 8; ++byte) label[byte] = static_cast<uint8_t>(index >> (8 * byte));
    sha->Update(label, sizeof(label));
    sha->Update(page, kPage);
  }
}

absl::Status AddSegment(GuestMemory& memory, const GuestMemory::Segment& segment,
                        base::Sha256* sha) {
  const int fd = segment.memfd.get();
  uint64_t at = 0;
  while (at < segment.size) {
    off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0) {
      if (errno == ENXIO) return absl::OkStatus();  // Nothing but a hole is left.
      return base::ErrnoStatus(errno, "guest memory: SEEK_DATA");
    }
    off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return base::ErrnoStatus(errno, "guest memory: SEEK_HOLE");
    const uint64_t begin = static_cast<uint64_t>(data) / kPage * kPage;
    const uint64_t end =
        std::min((static_cast<uint64_t>(hole) + kPage - 1) / kPage * kPage, segment.size);
    KTSTR_ASSIGN_OR_RETURN(absl::Span<uint8_t> bytes,
                           memory.At(segment.offset + begin, end - begin));
    AddPages(bytes.data(), (segment.offset + begin) / kPage, (end - begin) / kPage, sha);
    at = end;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> DigestOf(GuestMemory& memory) {
  base::Sha256 sha;
  for (const GuestMemory::Segment& segment : memory.segments()) {
    KTSTR_RETURN_IF_ERROR(AddSegment(memory, segment, &sha));
  }
  return sha.FinishHex();
}

}  // namespace ktstr::vmm
