// SPDX-License-Identifier: Apache-2.0
#include "vmm/private_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"

namespace ktstr::vmm {
namespace {

// Documentation/admin-guide/mm/pagemap.rst.
constexpr uint64_t kPagePresent = uint64_t{1} << 63;
constexpr uint64_t kPageSwapped = uint64_t{1} << 62;
constexpr uint64_t kPageOfFile = uint64_t{1} << 61;
constexpr size_t kEntriesAtOnce = 8192;
constexpr int kMaxWordReads = 100;
constexpr size_t kMaxMaps = size_t{4} << 20;

absl::Status Errno(int error, std::string_view what) {
  if (error == ESRCH) return absl::UnavailableError("guest memory: the engine is gone");
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(absl::StrCat(
        "guest memory: ", absl::string_view(what.data(), what.size()), ": ", strerror(error)));
  }
  return base::ErrnoStatus(
      error, absl::StrCat("guest memory: ", absl::string_view(what.data(), what.size())));
}

// A line of /proc/PID/maps: "begin-end perms offset major:minor inode path".
struct MapsLine {
  uint64_t begin = 0;
  uint64_t end = 0;
  char perms[5] = {};
  uint64_t offset = 0;
  char device[32] = {};
  uint64_t inode = 0;
};

std::optional<MapsLine> ParseMapsLine(absl::string_view text) {
  MapsLine line;
  const int fields = std::sscanf(
      std::string(text).c_str(), "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %31s %" SCNu64,
      &line.begin, &line.end, line.perms, &line.offset, line.device, &line.inode);
  return fields == 6 ? std::optional<MapsLine>(line) : std::nullopt;
}

absl::StatusOr<std::string> ReadMaps(const std::string& process) {
  const std::string path = absl::StrCat("/proc/", process, "/maps");
  base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Errno(errno, absl::StrCat("mappings of process ", process));
  return base::ReadFd(fd.get(), path, kMaxMaps);
}

// A page of a file, mapped.
class MappedPage {
 public:
  explicit MappedPage(int fd) : at_(mmap(nullptr, kPageSize, PROT_READ, MAP_PRIVATE, fd, 0)) {}
  MappedPage(const MappedPage&) = delete;
  MappedPage& operator=(const MappedPage&) = delete;
  ~MappedPage() {
    if (valid()) munmap(at_, kPageSize);
  }
  bool valid() const { return at_ != MAP_FAILED; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(at_); }

 private:
  void* at_;
};

}  // namespace

absl::StatusOr<MappedFile> ShownInMaps(int fd) {
  const MappedPage page(fd);
  if (!page.valid()) return Errno(errno, "mapping a file of the snapshot");
  KTSTR_ASSIGN_OR_RETURN(const std::string maps, ReadMaps("self"));
  for (absl::string_view text : absl::StrSplit(maps, '\n', absl::SkipEmpty())) {
    const std::optional<MapsLine> line = ParseMapsLine(text);
    if (line.has_value() && line->begin <= page.address() && page.address() < line->end) {
      return MappedFile{line->device, line->inode};
    }
  }
  return absl::InternalError(
      "guest memory: /proc/self/maps does not show a mapping of this process");
}

absl::StatusOr<uint64_t> FindMapping(const std::string& maps, const MappedFile& file,
                                     uint64_t size) {
  uint64_t begin_of_file = 0;
  uint64_t covered = 0;
  for (absl::string_view text : absl::StrSplit(maps, '\n', absl::SkipEmpty())) {
    const std::optional<MapsLine> line = ParseMapsLine(text);
    if (!line.has_value() || line->inode != file.inode || line->device != file.device) continue;
    if (line->perms[3] != 'p' || line->offset != covered ||
        (covered != 0 && line->begin != begin_of_file + line->offset)) {
      return absl::FailedPreconditionError(
          absl::StrCat("guest memory: the engine's mapping is not what was asked for: ", text));
    }
    if (covered == 0) begin_of_file = line->begin;
    covered += line->end - line->begin;
  }
  if (covered == size) return begin_of_file;
  return absl::FailedPreconditionError(
      absl::StrCat("guest memory: the engine maps ", covered, " bytes of a file of ", size));
}

absl::StatusOr<std::unique_ptr<PrivateMemory>> PrivateMemory::Create(
    std::shared_ptr<const base::Child> engine, const std::vector<base::UniqueFd>& files) {
  const std::string process = absl::StrCat(engine->pid());
  base::UniqueFd pagemap(
      open(absl::StrCat("/proc/", process, "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return Errno(errno, "page map of the engine");
  KTSTR_ASSIGN_OR_RETURN(const std::string maps, ReadMaps(process));
  std::vector<Segment> segments;
  uint64_t offset = 0;
  for (const base::UniqueFd& file : files) {
    KTSTR_ASSIGN_OR_RETURN(const uint64_t size, base::SizeOf(file.get(), "the snapshot's RAM"));
    KTSTR_ASSIGN_OR_RETURN(const MappedFile shown, ShownInMaps(file.get()));
    KTSTR_ASSIGN_OR_RETURN(const uint64_t address, FindMapping(maps, shown, size));
    segments.push_back({file.get(), offset, size, address});
    offset += size;
  }
  std::unique_ptr<PrivateMemory> memory(
      new PrivateMemory(std::move(engine), offset, std::move(segments), std::move(pagemap)));
  uint8_t probe;
  KTSTR_RETURN_IF_ERROR(memory->Read(0, &probe, 1));
  return memory;
}

absl::Status PrivateMemory::Transfer(bool write, uint64_t offset, void* local, uint64_t size) {
  auto* bytes = static_cast<uint8_t*>(local);
  for (const Segment& segment : segments_) {
    while (size > 0 && offset >= segment.offset && offset - segment.offset < segment.size) {
      const uint64_t inside = offset - segment.offset;
      const uint64_t piece = std::min(size, segment.size - inside);
      iovec here = {bytes, piece};
      // An address of another process, which this one never dereferences.
      auto* address =
          reinterpret_cast<void*>(segment.address + inside);  // NOLINT(performance-no-int-to-ptr)
      iovec there = {address, piece};
      const ssize_t done = write ? process_vm_writev(engine_->pid(), &here, 1, &there, 1, 0)
                                 : process_vm_readv(engine_->pid(), &here, 1, &there, 1, 0);
      if (done <= 0) return Errno(done < 0 ? errno : EFAULT, "access to the engine");
      bytes += done;
      offset += static_cast<uint64_t>(done);
      size -= static_cast<uint64_t>(done);
    }
  }
  return absl::OkStatus();
}

// The kernel may copy byte by byte, so a word counts only when two copies of it agree.
absl::Status PrivateMemory::DoRead(uint64_t offset, void* to, uint64_t size) {
  KTSTR_RETURN_IF_ERROR(Transfer(false, offset, to, size));
  if ((size != sizeof(uint32_t) && size != sizeof(uint64_t)) || offset % size != 0) {
    return absl::OkStatus();
  }
  for (int i = 0; i < kMaxWordReads; ++i) {
    uint64_t again = 0;
    KTSTR_RETURN_IF_ERROR(Transfer(false, offset, &again, size));
    if (std::memcmp(to, &again, size) == 0) return absl::OkStatus();
    std::memcpy(to, &again, size);
  }
  return absl::OkStatus();  // The guest writes it without end: any value is valid.
}

absl::Status PrivateMemory::DoWrite(uint64_t offset, const void* from, uint64_t size) {
  return Transfer(true, offset, const_cast<void*>(from), size);
}

absl::Status PrivateMemory::AppendOwnPages(const Segment& segment, std::vector<Extent>* extents) {
  std::vector<uint64_t> entries(kEntriesAtOnce);
  const uint64_t pages = segment.size / kPageSize;
  for (uint64_t page = 0; page < pages;) {
    const uint64_t count = std::min<uint64_t>(entries.size(), pages - page);
    const ssize_t got =
        pread(pagemap_.get(), entries.data(), count * sizeof(uint64_t),
              static_cast<off_t>((segment.address / kPageSize + page) * sizeof(uint64_t)));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Errno(got < 0 ? errno : ESRCH, "page map of the engine");
    const uint64_t read = static_cast<uint64_t>(got) / sizeof(uint64_t);
    for (uint64_t i = 0; i < read; ++i) {
      const bool own =
          (entries[i] & (kPagePresent | kPageSwapped)) != 0 && (entries[i] & kPageOfFile) == 0;
      if (own) extents->push_back({segment.offset + (page + i) * kPageSize, kPageSize});
    }
    page += read;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GuestMemory::Extent>> PrivateMemory::Extents() {
  std::vector<Extent> all;
  for (const Segment& segment : segments_) {
    KTSTR_RETURN_IF_ERROR(AppendOwnPages(segment, &all));
    KTSTR_RETURN_IF_ERROR(AppendDataExtents(segment.file, segment.size, segment.offset, &all));
  }
  std::sort(all.begin(), all.end(),
            [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  std::vector<Extent> merged;
  for (const Extent& extent : all) {
    const uint64_t end = extent.offset + extent.size;
    if (merged.empty() || extent.offset > merged.back().offset + merged.back().size) {
      merged.push_back(extent);
    } else {
      Extent& last = merged.back();
      last.size = std::max(last.offset + last.size, end) - last.offset;
    }
  }
  return merged;
}

}  // namespace ktstr::vmm
