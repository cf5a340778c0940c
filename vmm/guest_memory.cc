// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

bool Aligned(uint64_t offset, uint64_t size) { return offset % size == 0; }

absl::Status CopyFile(int from, uint64_t size, uint8_t* to) {
  std::vector<GuestMemory::Extent> extents;
  KTSTR_RETURN_IF_ERROR(AppendDataExtents(from, size, 0, &extents));
  for (const GuestMemory::Extent& extent : extents) {
    KTSTR_ASSIGN_OR_RETURN(const size_t got, base::ReadAt(from, to + extent.offset, extent.size,
                                                          extent.offset, "snapshot: its RAM"));
    if (got < extent.size) return absl::DataLossError("snapshot: its RAM ends early");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status GuestMemory::Read(uint64_t offset, void* to, uint64_t size) {
  if (size > size_ || offset > size_ - size) {
    return absl::OutOfRangeError(absl::StrFormat(
        "guest memory: %d bytes at %#x are not inside its %d bytes", size, offset, size_));
  }
  return size == 0 ? absl::OkStatus() : DoRead(offset, to, size);
}

absl::Status GuestMemory::Write(uint64_t offset, const void* from, uint64_t size) {
  if (size > size_ || offset > size_ - size) {
    return absl::OutOfRangeError(absl::StrFormat(
        "guest memory: %d bytes at %#x are not inside its %d bytes", size, offset, size_));
  }
  return size == 0 ? absl::OkStatus() : DoWrite(offset, from, size);
}

absl::Status AppendDataExtents(int fd, uint64_t size, uint64_t shift,
                               std::vector<GuestMemory::Extent>* extents) {
  uint64_t at = 0;
  while (at < size) {
    const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0) {
      if (errno == ENXIO) return absl::OkStatus();  // Nothing but a hole is left.
      return base::ErrnoStatus(errno, "guest memory: SEEK_DATA");
    }
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return base::ErrnoStatus(errno, "guest memory: SEEK_HOLE");
    const uint64_t begin = static_cast<uint64_t>(data) / kPageSize * kPageSize;
    const uint64_t end =
        std::min((static_cast<uint64_t>(hole) + kPageSize - 1) / kPageSize * kPageSize, size);
    if (begin >= end) return absl::OkStatus();
    extents->push_back({shift + begin, end - begin});
    at = end;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Create(
    const std::vector<uint64_t>& sizes) {
  uint64_t total = 0;
  for (uint64_t size : sizes) {
    if (size == 0 || size % kPageSize != 0) {
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
  std::unique_ptr<SharedMemory> memory(new SharedMemory(static_cast<uint8_t*>(base), total));
  uint64_t offset = 0;
  for (uint64_t size : sizes) {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd memfd, base::MakeMemfd("ktstr-guest-ram", size));
    if (mmap(memory->base_ + offset, size, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memfd.get(), 0) == MAP_FAILED) {
      return base::ErrnoStatus(errno, absl::StrCat("guest memory: mapping ", size, " bytes"));
    }
    memory->files_.push_back(std::move(memfd));
    offset += size;
  }
  return memory;
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::CopyOf(
    const std::vector<base::UniqueFd>& files) {
  std::vector<uint64_t> sizes;
  for (const base::UniqueFd& file : files) {
    KTSTR_ASSIGN_OR_RETURN(const uint64_t size, base::SizeOf(file.get(), "the snapshot's RAM"));
    sizes.push_back(size);
  }
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<SharedMemory> memory, Create(sizes));
  uint8_t* at = memory->base_;
  for (size_t i = 0; i < files.size(); ++i) {
    KTSTR_RETURN_IF_ERROR(CopyFile(files[i].get(), sizes[i], at));
    at += sizes[i];
  }
  return memory;
}

SharedMemory::~SharedMemory() {
  if (base_ != nullptr) munmap(base_, size());
}

std::vector<base::UniqueFd> SharedMemory::Release() {
  munmap(std::exchange(base_, nullptr), size());
  return std::move(files_);
}

absl::StatusOr<absl::Span<uint8_t>> SharedMemory::At(uint64_t offset, uint64_t bytes) {
  if (bytes > size() || offset > size() - bytes) {
    return absl::OutOfRangeError(
        absl::StrCat("guest memory: ", bytes, " bytes at ", offset, " are not inside"));
  }
  return absl::MakeSpan(base_ + offset, bytes);
}

absl::StatusOr<std::vector<GuestMemory::Extent>> SharedMemory::Extents() {
  std::vector<Extent> extents;
  uint64_t offset = 0;
  for (const base::UniqueFd& file : files_) {
    KTSTR_ASSIGN_OR_RETURN(const uint64_t size, base::SizeOf(file.get(), "guest memory"));
    KTSTR_RETURN_IF_ERROR(AppendDataExtents(file.get(), size, offset, &extents));
    offset += size;
  }
  return extents;
}

absl::Status SharedMemory::DoRead(uint64_t offset, void* to, uint64_t size) {
  const uint8_t* from = base_ + offset;
  if (size == sizeof(uint64_t) && Aligned(offset, size)) {
    const uint64_t word =
        __atomic_load_n(reinterpret_cast<const uint64_t*>(from), __ATOMIC_ACQUIRE);
    std::memcpy(to, &word, sizeof(word));
  } else if (size == sizeof(uint32_t) && Aligned(offset, size)) {
    const uint32_t word =
        __atomic_load_n(reinterpret_cast<const uint32_t*>(from), __ATOMIC_ACQUIRE);
    std::memcpy(to, &word, sizeof(word));
  } else {
    std::memcpy(to, from, size);
  }
  return absl::OkStatus();
}

absl::Status SharedMemory::DoWrite(uint64_t offset, const void* from, uint64_t size) {
  uint8_t* to = base_ + offset;
  if (size == sizeof(uint64_t) && Aligned(offset, size)) {
    uint64_t word;
    std::memcpy(&word, from, sizeof(word));
    __atomic_store_n(reinterpret_cast<uint64_t*>(to), word, __ATOMIC_RELEASE);
  } else if (size == sizeof(uint32_t) && Aligned(offset, size)) {
    uint32_t word;
    std::memcpy(&word, from, sizeof(word));
    __atomic_store_n(reinterpret_cast<uint32_t*>(to), word, __ATOMIC_RELEASE);
  } else {
    std::memcpy(to, from, size);
  }
  return absl::OkStatus();
}

}  // namespace ktstr::vmm
