// SPDX-License-Identifier: Apache-2.0
#include "client/exit_codes.h"

#include "scenario/finding_kinds.h"

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
    default:  // A record without a verdict: the harness failed.
      ++errors;
      break;
  }
}

void VerdictCounts::Add(const v1::RunRecord& record) {
  Add(record.verdict());
  if (record.verdict() == v1::ERROR && !record.findings().empty() &&
      scenario::IsKind(record.findings(0), scenario::FindingKind::kBadInput)) {
    ++bad_inputs;
  }
}

void VerdictCounts::Add(const VerdictCounts& other) {
  passed += other.passed;
  failed += other.failed;
  skipped += other.skipped;
  errors += other.errors;
  bad_inputs += other.bad_inputs;
  inconclusive += other.inconclusive;
}

ExitCode ExitCodeOf(const VerdictCounts& counts, const FailurePolicy& policy) {
  if (counts.failed > 0) return kFail;
  if (policy.skip_is_failure && counts.skipped > 0) return kFail;
  if (policy.inconclusive_is_failure && counts.inconclusive > 0) return kFail;
  if (counts.errors > 0) return counts.errors == counts.bad_inputs ? kBadInput : kHarness;
  if (counts.inconclusive > 0) return kInconclusive;
  return kOk;
}

}  // namespace ktstr::client
