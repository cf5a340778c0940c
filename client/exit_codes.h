// SPDX-License-Identifier: Apache-2.0
//
// Exit codes of ktstrctl, a contract with scripts. Pure functions, any thread.

#ifndef KTSTR_CLIENT_EXIT_CODES_H_
#define KTSTR_CLIENT_EXIT_CODES_H_

#include "absl/status/status.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

enum ExitCode : int {
  kOk = 0,            // Every variant passed or was skipped.
  kFail = 1,          // At least one FAIL.
  kInconclusive = 2,  // No FAIL, but something INCONCLUSIVE.
  kUsage = 64,        // Wrong flags.
  kBadInput = 65,     // The input is invalid: scenario, unknown names.
  kUnavailable = 69,  // Something needed is not there: daemon, kernel, KVM asked for by name.
  kHarness = 70,      // The harness failed.
  kContended = 75,    // Resources stayed contended, or a quota is full.
  kInterrupted = 130,
};

// The exit code for a call that failed. OK gives kOk.
ExitCode ExitCodeOf(const absl::Status& status);

// How many runs ended with each verdict.
struct VerdictCounts {
  int passed = 0;
  int failed = 0;
  int skipped = 0;
  int errors = 0;
  int bad_inputs = 0;  // Of the errors, those of the input.
  int inconclusive = 0;

  void Add(v1::Verdict verdict);
  void Add(const v1::RunRecord& record);
  void Add(const VerdictCounts& other);
  int total() const { return passed + failed + skipped + errors + inconclusive; }
};

struct FailurePolicy {
  bool skip_is_failure = false;
  bool inconclusive_is_failure = false;
};

// FAIL wins over ERROR, ERROR over INCONCLUSIVE. 65 when every ERROR is one of the input.
ExitCode ExitCodeOf(const VerdictCounts& counts, const FailurePolicy& policy);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_EXIT_CODES_H_
