// SPDX-License-Identifier: Apache-2.0
#include "base/file_size.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/string_view.h"

namespace ktstr::base {

absl::StatusOr<uint64_t> SizeOf(int fd, std::string_view name) {
  struct stat info;
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, absl::StrCat("size of ", ToAbsl(name)));
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace ktstr::base
