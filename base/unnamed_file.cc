// SPDX-License-Identifier: Apache-2.0
#include "base/unnamed_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::base {

absl::StatusOr<UniqueFd> MakeUnnamedFile(const std::string& dir) {
  UniqueFd fd(open(dir.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
  if (fd.valid()) return fd;
  // open(2): EOPNOTSUPP without support of the file system, EISDIR without support of the kernel.
  if (errno != EOPNOTSUPP && errno != EISDIR) return ErrnoStatus(errno, dir);
  std::string path = JoinPath(dir, ".unnamed.XXXXXX");
  fd.Reset(mkostemp(path.data(), O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, absl::StrCat("create ", path));
  if (unlink(path.c_str()) != 0) return ErrnoStatus(errno, absl::StrCat("remove ", path));
  return fd;
}

}  // namespace ktstr::base
