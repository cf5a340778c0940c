// SPDX-License-Identifier: Apache-2.0
//
// KTSTR_RETURN_IF_ERROR(expr) and KTSTR_ASSIGN_OR_RETURN(lhs, expr) for absl::Status, and helpers
// that add context. Debian 12's Abseil has no such macros.

#ifndef KTSTR_BASE_STATUS_MACROS_H_
#define KTSTR_BASE_STATUS_MACROS_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ktstr::base {

// `status` with "context: " before its message and the same payloads; OK stays OK.
absl::Status Annotate(absl::Status status, std::string_view context);

// Status of errno value `error`: "what: strerror". ENOENT NotFound, EACCES/EPERM PermissionDenied,
// EEXIST AlreadyExists, ENOSPC/EDQUOT/EMFILE/ENFILE/ENOMEM ResourceExhausted, EROFS
// FailedPrecondition, ETIMEDOUT DeadlineExceeded, else Internal.
absl::Status ErrnoStatus(int error, std::string_view what);

}  // namespace ktstr::base

#define KTSTR_CONCAT_INNER_(a, b) a##b
#define KTSTR_CONCAT_(a, b) KTSTR_CONCAT_INNER_(a, b)

#define KTSTR_RETURN_IF_ERROR(expr)                                 \
  do {                                                              \
    if (absl::Status ktstr_status_ = (expr); !ktstr_status_.ok()) { \
      return ktstr_status_;                                         \
    }                                                               \
  } while (false)

#define KTSTR_ASSIGN_OR_RETURN(lhs, expr) \
  KTSTR_ASSIGN_OR_RETURN_IMPL_(KTSTR_CONCAT_(ktstr_statusor_, __LINE__), lhs, expr)
// `lhs` may be a declaration, which parentheses would break.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define KTSTR_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) return std::move(tmp).status();     \
  lhs = *std::move(tmp)
// NOLINTEND(bugprone-macro-parentheses)

#endif  // KTSTR_BASE_STATUS_MACROS_H_
