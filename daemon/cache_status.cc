// SPDX-License-Identifier: Apache-2.0
#include "daemon/cache_status.h"

#include <utility>

#include "base/status_macros.h"
#include "cache/cache_error.h"

namespace ktstr::daemon {

absl::Status CacheError(absl::Status status, const std::string& cache_dir) {
  const std::string what = "cache directory " + cache_dir;
  // The daemon makes the directory itself: NotFound means that the place for it is missing.
  if (absl::IsNotFound(status)) status = absl::FailedPreconditionError(status.message());
  if (absl::IsInternal(status)) return base::Annotate(std::move(status), what);
  return cache::ExplainCacheError(std::move(status), what);
}

}  // namespace ktstr::daemon
