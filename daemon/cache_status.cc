// SPDX-License-Identifier: Apache-2.0
#include "daemon/cache_status.h"

#include <utility>

#include "base/status_macros.h"
#include "cache/cache_error.h"

namespace ktstr::daemon {

absl::Status CacheError(absl::Status status, const std::string& cache_dir) {
  const std::string what = "cache directory " + cache_dir;
  // It is about to be made: what is missing is the place to make it in.
  if (absl::IsNotFound(status)) status = absl::FailedPreconditionError(status.message());
  if (absl::IsInternal(status)) return base::Annotate(std::move(status), what);
  return cache::ExplainCacheError(std::move(status), what);
}

}  // namespace ktstr::daemon
