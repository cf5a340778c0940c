// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::vmm {

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Create(
    const std::vector<uint64_t>& sizes) {
  uint64_t total = 0;
  for (uint64_t size : sizes) {
    if (size == 0 || size % 4096 != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("guest memory: node size ", size, " is not a multiple of 4096"));
    }
    total += size;
  }
  if (total == 0) return absl::InvalidArgumentError("guest memory: no node");
  // One reservation first, so that the nodes lie side by side.
  void* base = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return base::ErrnoStatus(errno, absl::StrCat("guest memory: address space of ", total));
  }
  std::unique_ptr<GuestMemory> memory(new GuestMemory(static_cast<uint8_t*>(base), total));
  uint64_t offset = 0;
  for (uint64_t size : sizes) {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd memfd, base::MakeMemfd("ktstr-guest-ram", size));
    if (mmap(memory->base_ + offset, size, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memfd.get(), 0) == MAP_FAILED) {
      return base::ErrnoStatus(errno, absl::StrCat("guest memory: mapping ", size, " bytes"));
    }
    memory->segments_.push_back({std::move(memfd), offset, size});
    offset += size;
  }
  return memory;
}

GuestMemory::~GuestMemory() { munmap(base_, size_); }

absl::StatusOr<absl::Span<uint8_t>> GuestMemory::At(uint64_t offset, uint64_t size) {
  if (size > size_ || offset > size_ - size) {
    return absl::OutOfRangeError(absl::StrFormat(
        "guest memory: %d bytes at %#x are not inside its %d bytes", size, offset, size_));
  }
  return absl::MakeSpan(base_ + offset, size);
}

}  // namespace ktstr::vmm
