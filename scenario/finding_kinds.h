// SPDX-License-Identifier: Apache-2.0
//
// Every kind of finding, in one table: its token, its verdict, its meaning. Evaluation and client
// read the table, tests compare the docs with it. No other file of the programs has a kind's token.
// Any thread.
//
// To add a kind: a line in the enumeration, in the table, in docs/scenarios.md and in the comment
// of Finding.kind in run.proto.

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
  kOutOfMemory,
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
  kUnconfirmed,
};

struct FindingKindInfo {
  FindingKind kind;
  std::string_view token;  // Stable: scripts depend on it.
  v1::Verdict verdict;     // Of a run with this finding, unless it is a consequence.
  bool show_logs;          // The scheduler's log and the console have the reason.
  bool stopped;            // The user or the daemon ended the run: it proves nothing.
  bool threshold;          // A number decides: the speed of virtual CPUs may (confirm.h).
  std::string_view meaning;
};

absl::Span<const FindingKindInfo> FindingKinds();
const FindingKindInfo& InfoOf(FindingKind kind);
// The row of `finding`; null for a token of another version of ktstr.
const FindingKindInfo* InfoOf(const v1::Finding& finding);
bool IsKind(const v1::Finding& finding, FindingKind kind);
void SetKind(FindingKind kind, v1::Finding* finding);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_FINDING_KINDS_H_
