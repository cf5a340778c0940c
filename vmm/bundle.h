// SPDX-License-Identifier: Apache-2.0
//
// Files for the guest as a cpio archive in the "newc" format (kernel
// Documentation/driver-api/early-userspace/buffer-format.rst), as a memfd. Used for the bundle of a
// run and for the boot image. The bytes are a function of the content alone: entries are sorted,
// owner is root, times are 0, inode numbers count up; parents are made where they are missing.
//
// One thread.

#ifndef KTSTR_VMM_BUNDLE_H_
#define KTSTR_VMM_BUNDLE_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::vmm {

class BundleBuilder {
 public:
  // Paths are relative to the archive's root, without empty, "." or ".." components; `mode` is
  // permissions (0755). A bad path, or one that comes twice, is reported by Finish().
  void AddData(std::string path, std::string data, int mode);
  void AddDirectory(std::string path, int mode);
  // The whole file, read by Finish() through a duplicate of `fd`. InvalidArgument when it is no
  // regular file, or 4 GiB or more.
  absl::Status AddFd(std::string path, int fd, int mode);

  // The archive. Once.
  absl::StatusOr<base::UniqueFd> Finish();

 private:
  struct Entry {
    uint32_t mode = 0;  // With the file type.
    std::string data;   // When `fd` is not valid.
    base::UniqueFd fd;
    uint64_t size = 0;
  };

  void Add(std::string path, Entry entry);
  absl::Status AddParents();

  std::map<std::string, Entry> entries_;
  absl::Status error_;  // First one.
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_BUNDLE_H_
