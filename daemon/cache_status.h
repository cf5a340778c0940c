// SPDX-License-Identifier: Apache-2.0
//
// Errors of a cache that cannot be written, as the user gets them. Any thread.

#ifndef KTSTR_DAEMON_CACHE_STATUS_H_
#define KTSTR_DAEMON_CACHE_STATUS_H_

#include <string>

#include "absl/status/status.h"

namespace ktstr::daemon {

// `status` of a failed write below `cache_dir`, with the directory and the remedy.
absl::Status CacheError(absl::Status status, const std::string& cache_dir);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_CACHE_STATUS_H_
