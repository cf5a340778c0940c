// SPDX-License-Identifier: Apache-2.0
//
// RAM of a restored guest: the engine maps the snapshot's sealed files privately, so that N guests
// of one snapshot share its pages and each pays for those it writes. The files never change: what
// the guest writes is in the engine's address space only. This class reads and writes it there,
// with process_vm_readv(2) and process_vm_writev(2), and finds the guest's own pages in
// /proc/PID/pagemap. All three need the rights of ptrace(2) over the engine; a parent of the same
// user has them (Documentation/admin-guide/LSM/Yama.rst: also with ptrace_scope 1).
//
// The object co-owns the engine's base::Child, so no other process gets the engine's pid before the
// last read. After the engine's end, every access is Unavailable.
//
// Threads: as GuestMemory.

#ifndef KTSTR_VMM_PRIVATE_MEMORY_H_
#define KTSTR_VMM_PRIVATE_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "vmm/guest_memory.h"

namespace ktstr::vmm {

// A file as a line of /proc/PID/maps names it ("major:minor inode"). On a file system whose
// stat(2) reports a device of its own for each subvolume or layer (btrfs, overlayfs), the kernel
// prints those of the file below here: the device differs from st_dev, and the inode may differ
// from st_ino.
struct MappedFile {
  std::string device;
  uint64_t inode = 0;
};

// What /proc/self/maps shows for `fd`, which this function maps for a moment.
absl::StatusOr<MappedFile> ShownInMaps(int fd);

// The address at which a process with these `maps` has mapped all `size` bytes of the file, once
// and privately; the mapping may be split over adjacent lines. FailedPrecondition when there is no
// such mapping.
absl::StatusOr<uint64_t> FindMapping(const std::string& maps, const MappedFile& file,
                                     uint64_t size);

class PrivateMemory : public GuestMemory {
 public:
  // `engine` has mapped each of `files` (one per node, in the order of RAM) once, whole and
  // privately. The files are borrowed for the life of the object. PermissionDenied when this
  // process may not look into the engine; FailedPrecondition when a mapping is missing.
  static absl::StatusOr<std::unique_ptr<PrivateMemory>> Create(
      std::shared_ptr<const base::Child> engine, const std::vector<base::UniqueFd>& files);

  absl::StatusOr<std::vector<Extent>> Extents() override;

 protected:
  absl::Status DoRead(uint64_t offset, void* to, uint64_t size) override;
  absl::Status DoWrite(uint64_t offset, const void* from, uint64_t size) override;

 private:
  struct Segment {
    int file;
    uint64_t offset;  // In RAM.
    uint64_t size;
    uint64_t address;  // In the engine.
  };
  PrivateMemory(std::shared_ptr<const base::Child> engine, uint64_t size,
                std::vector<Segment> segments, base::UniqueFd pagemap)
      : GuestMemory(size),
        engine_(std::move(engine)),
        segments_(std::move(segments)),
        pagemap_(std::move(pagemap)) {}

  absl::Status Transfer(bool write, uint64_t offset, void* local, uint64_t size);
  absl::Status AppendOwnPages(const Segment& segment, std::vector<Extent>* extents);

  std::shared_ptr<const base::Child> engine_;
  std::vector<Segment> segments_;
  base::UniqueFd pagemap_;
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_PRIVATE_MEMORY_H_
