// SPDX-License-Identifier: Apache-2.0
#include "cache/byte_source.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace ktstr::cache {

absl::StatusOr<std::string_view> FdSource::Next() {
  ssize_t got;
  do {
    got = read(fd_, buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) return base::ErrnoStatus(errno, absl::StrCat("read ", name_));
  return std::string_view(buffer_.data(), static_cast<size_t>(got));
}

}  // namespace ktstr::cache
