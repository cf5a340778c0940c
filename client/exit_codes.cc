// SPDX-License-Identifier: Apache-2.0
#include "client/exit_codes.h"

namespace ktstr::client {

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kInvalidArgument:
      return kBadInput;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kPermissionDenied:
      return kUnavailable;
    case absl::StatusCode::kResourceExhausted:
      return kContended;
    case absl::StatusCode::kCancelled:
      return kInterrupted;
    default:
      return kHarness;
  }
}

void VerdictCounts::Add(v1::Verdict verdict) {
  switch (verdict) {
    case v1::PASS:
      ++passed;
      break;
    case v1::FAIL:
      ++failed;
      break;
    case v1::SKIP:
      ++skipped;
      break;
    case v1::INCONCLUSIVE:
      ++inconclusive;
      break;
    default:  // A record without a verdict is a harness that did not do its work.
      ++errors;
      break;
  }
}

ExitCode ExitCodeOf(const VerdictCounts& counts, const FailurePolicy& policy) {
  if (counts.failed > 0) return kFail;
  if (policy.skip_is_failure && counts.skipped > 0) return kFail;
  if (policy.inconclusive_is_failure && counts.inconclusive > 0) return kFail;
  if (counts.errors > 0) return kHarness;
  if (counts.inconclusive > 0) return kInconclusive;
  return kOk;
}

}  // namespace ktstr::client
