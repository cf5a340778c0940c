// SPDX-License-Identifier: Apache-2.0
//
// RAM of one guest, seen from the host: the one checked door to it. Backed by one memfd per NUMA
// node, mapped one behind the other, so that an offset into RAM is an offset into the view. The
// engine maps the same memfds (share=on): both sides see each other's writes at once, and nothing
// has a name in /dev/shm.
//
// Everything in here is written by the guest: hostile until checked. A reader copies first and
// checks the copy.
//
// One thread. The object owns memfds and mapping.

#ifndef KTSTR_VMM_GUEST_MEMORY_H_
#define KTSTR_VMM_GUEST_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/fd.h"

namespace ktstr::vmm {

class GuestMemory {
 public:
  // A node's piece of RAM.
  struct Segment {
    base::UniqueFd memfd;
    uint64_t offset;  // Of its first byte in RAM.
    uint64_t size;
  };

  // Zeroed RAM of the given node sizes, each a multiple of the page size. Costs no memory until
  // touched.
  static absl::StatusOr<std::unique_ptr<GuestMemory>> Create(const std::vector<uint64_t>& sizes);
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  ~GuestMemory();

  uint64_t size() const { return size_; }
  const std::vector<Segment>& segments() const { return segments_; }

  // The bytes at [offset, offset + size). OutOfRange when they are not all inside.
  absl::StatusOr<absl::Span<uint8_t>> At(uint64_t offset, uint64_t size);

 private:
  GuestMemory(uint8_t* base, uint64_t size) : base_(base), size_(size) {}

  uint8_t* base_;
  uint64_t size_;
  std::vector<Segment> segments_;
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_GUEST_MEMORY_H_
