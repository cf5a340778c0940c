// SPDX-License-Identifier: Apache-2.0
//
// The RAM of one guest, seen from the host; all access goes through this checked door. Offsets
// count through the RAM of all nodes.
//
// Two kinds: SharedMemory, memfds that the engine maps shared (a cold boot, or a restore onto a
// copy of the snapshot), and PrivateMemory (private_memory.h), the engine's copy-on-write view of a
// snapshot (a restore).
//
// The guest writes all of it: hostile until checked. Read() copies, so that the caller checks and
// uses the same bytes.
//
// One thread; several may Read() at once while nobody writes.

#ifndef KTSTR_VMM_GUEST_MEMORY_H_
#define KTSTR_VMM_GUEST_MEMORY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/fd.h"

namespace ktstr::vmm {

inline constexpr uint64_t kPageSize = 4096;

class GuestMemory {
 public:
  // Whole pages.
  struct Extent {
    uint64_t offset;
    uint64_t size;
  };

  virtual ~GuestMemory() = default;
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  uint64_t size() const { return size_; }
  // Copies [offset, offset + size). OutOfRange when a part lies outside. Unavailable when the
  // engine is gone. Read() copies an aligned word of 4 or 8 bytes whole, also while the guest
  // writes it; SharedMemory copies such words with acquire and release order.
  absl::Status Read(uint64_t offset, void* to, uint64_t size);
  absl::Status Write(uint64_t offset, const void* from, uint64_t size);
  // The parts that may hold something other than zeros, ascending.
  virtual absl::StatusOr<std::vector<Extent>> Extents() = 0;

 protected:
  explicit GuestMemory(uint64_t size) : size_(size) {}
  // `offset` and `size` are inside.
  virtual absl::Status DoRead(uint64_t offset, void* to, uint64_t size) = 0;
  virtual absl::Status DoWrite(uint64_t offset, const void* from, uint64_t size) = 0;

 private:
  uint64_t size_;
};

// Appends the pages of a file that are not holes (lseek(2), SEEK_DATA), ascending, shifted by
// `shift`.
absl::Status AppendDataExtents(int fd, uint64_t size, uint64_t shift,
                               std::vector<GuestMemory::Extent>* extents);

// One memfd per NUMA node, mapped one after the other. The engine maps the same memfds: both sides
// see each other's writes at once, and nothing has a name in /dev/shm.
class SharedMemory : public GuestMemory {
 public:
  // Zeroed RAM of the given node sizes, each a multiple of the page size. Costs no memory until
  // touched.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Create(const std::vector<uint64_t>& sizes);
  // A copy of a snapshot's RAM.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> CopyOf(
      const std::vector<base::UniqueFd>& files);
  ~SharedMemory() override;

  // One per node.
  const std::vector<base::UniqueFd>& files() const { return files_; }
  // Unmaps the memory and returns the files; the object is unusable afterwards.
  std::vector<base::UniqueFd> Release();
  // The bytes themselves, for tests that play the guest.
  absl::StatusOr<absl::Span<uint8_t>> At(uint64_t offset, uint64_t size);
  absl::StatusOr<std::vector<Extent>> Extents() override;

 protected:
  absl::Status DoRead(uint64_t offset, void* to, uint64_t size) override;
  absl::Status DoWrite(uint64_t offset, const void* from, uint64_t size) override;

 private:
  SharedMemory(uint8_t* base, uint64_t size) : GuestMemory(size), base_(base) {}

  uint8_t* base_;
  std::vector<base::UniqueFd> files_;
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_GUEST_MEMORY_H_
