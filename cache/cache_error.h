// SPDX-License-Identifier: Apache-2.0
//
// Errors of a cache that cannot be written, explained for the user. Pure; any thread.

#ifndef KTSTR_CACHE_CACHE_ERROR_H_
#define KTSTR_CACHE_CACHE_ERROR_H_

#include <string_view>

#include "absl/status/status.h"

namespace ktstr::cache {

// For errors of writing below the cache directory: "what: reason. Remedy". `what` names the
// directory: "cache directory /x". A full disk (ResourceExhausted of base::ErrnoStatus), a
// read-only file system and missing rights become FailedPrecondition: waiting does not help.
// Returns other errors unchanged.
absl::Status ExplainCacheError(absl::Status status, std::string_view what);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_CACHE_ERROR_H_
