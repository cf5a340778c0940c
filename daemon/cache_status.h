// SPDX-License-Identifier: Apache-2.0
//
// What a cache that cannot be written looks like to the user. Any thread.

#ifndef KTSTR_DAEMON_CACHE_STATUS_H_
#define KTSTR_DAEMON_CACHE_STATUS_H_

#include <string>

#include "absl/status/status.h"

namespace ktstr::daemon {

// `status` of a failed write below `cache_dir`, with the directory and the remedy.
absl::Status CacheError(absl::Status status, const std::string& cache_dir);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_CACHE_STATUS_H_
