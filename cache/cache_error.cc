// SPDX-License-Identifier: Apache-2.0
#include "cache/cache_error.h"

#include "absl/strings/str_cat.h"
#include "base/string_view.h"

namespace ktstr::cache {

absl::Status ExplainCacheError(absl::Status status, std::string_view what) {
  const char* remedy = nullptr;
  if (absl::IsResourceExhausted(status)) {
    remedy = "Free space there";
  } else if (absl::IsFailedPrecondition(status) || absl::IsPermissionDenied(status)) {
    remedy = "Make it writable";
  } else {
    return status;
  }
  return absl::FailedPreconditionError(
      absl::StrCat(base::ToAbsl(what), " cannot be written: ", status.message(), ". ", remedy,
                   ", or set KTSTR_CACHE_DIR to a directory on another file system."));
}

}  // namespace ktstr::cache
