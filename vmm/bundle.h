// SPDX-License-Identifier: Apache-2.0
//
// Files for the guest as a cpio archive in the "newc" format (kernel
// Documentation/driver-api/early-userspace/buffer-format.rst), as a memfd. Used for the bundle of a
// run and for the boot image. The bytes are a function of the content alone: entries are sorted,
// owner is root, times are 0, inode numbers count up; missing parents are added.
//
// One thread.

#ifndef KTSTR_VMM_BUNDLE_H_
#define KTSTR_VMM_BUNDLE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::vmm {

class BundleBuilder {
 public:
  // Paths are relative to the archive's root, without empty, "." or ".." components; `mode` is
  // permissions (0755). Finish() reports a bad path, or one that comes twice.
  void AddData(std::string path, std::string data, int mode);
  void AddDirectory(std::string path, int mode);
  // A whole regular file of `size` bytes. Finish() opens it when its turn comes and closes it
  // again, so that a bundle of many files needs one descriptor.
  using Opener = std::function<absl::StatusOr<base::UniqueFd>()>;
  void AddFile(std::string path, uint64_t size, int mode, Opener open);

  // Makes the archive, once. InvalidArgument when it would have more than `max_bytes` (checked
  // before anything is allocated), or when a file is not regular, has another size, or has 4 GiB or
  // more.
  absl::StatusOr<base::UniqueFd> Finish(uint64_t max_bytes);
  // The size of that archive, without its files: the same errors, but for those of a file.
  absl::StatusOr<uint64_t> Bytes(uint64_t max_bytes);

 private:
  struct Entry {
    uint32_t mode = 0;  // With the file type.
    std::string data;   // When `open` is not set.
    Opener open;
    uint64_t size = 0;
  };

  void Add(std::string path, Entry entry);
  absl::Status AddParents();
  uint64_t ArchiveBytes() const;

  std::map<std::string, Entry> entries_;
  absl::Status error_;  // First one.
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_BUNDLE_H_
