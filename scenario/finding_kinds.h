// SPDX-License-Identifier: Apache-2.0
//
// Every kind of finding, in one table: its token, the verdict that it makes, what it means. The
// evaluation makes findings by it, the client reads it, tests compare the docs with it. A kind's
// token stands nowhere else in the programs. Any thread.
//
// To add a kind: a line in the enumeration, a line in the table, a line in docs/scenarios.md.

#ifndef KTSTR_SCENARIO_FINDING_KINDS_H_
#define KTSTR_SCENARIO_FINDING_KINDS_H_

#include <string_view>

#include "absl/types/span.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::scenario {

// In the order of the table.
enum class FindingKind {
  kStarved,
  kStuck,
  kUnfair,
  kWeight,
  kIsolation,
  kWorkerDied,
  kSchedulerDied,
  kSchedulerNotAttached,
  kVerifierRejected,
  kSchedulerStop,
  kOperationFailed,
  kKernelPanic,
  kGuestTimeout,
  kGuestEnded,
  kBadInput,
  kHarness,
  kEngine,
  kGuestChannel,
  kHostTimeout,
  kCancelled,
  kInterrupted,
  kNondeterminism,
  kNotTested,
  kTooShort,
};

struct FindingKindInfo {
  FindingKind kind;
  std::string_view token;  // Stable: scripts dispatch on it.
  v1::Verdict verdict;     // That it makes when it is no consequence of another.
  bool show_logs;          // The scheduler's log and the console hold the reason.
  bool stopped;            // Somebody ended the run: no verdict on anything.
  std::string_view meaning;
};

absl::Span<const FindingKindInfo> FindingKinds();
const FindingKindInfo& InfoOf(FindingKind kind);
// The row of `finding`; null when no row has its token (a record of another version).
const FindingKindInfo* InfoOf(const v1::Finding& finding);
bool IsKind(const v1::Finding& finding, FindingKind kind);
void SetKind(FindingKind kind, v1::Finding* finding);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_FINDING_KINDS_H_
