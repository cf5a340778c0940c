// SPDX-License-Identifier: Apache-2.0
//
// Findings by thresholds under a virtual CPU of limited speed. At some million instructions a
// second the scheduler's own code weighs many times what it weighs on a real CPU, while slices and
// ticks keep their lengths: a threshold may be crossed by that alone. So a run that fails by
// nothing but thresholds is run again at four times the speed, with its seed and with three others;
// what none of these runs shows is UNCONFIRMED. Pure; any thread.

#ifndef KTSTR_SCENARIO_CONFIRM_H_
#define KTSTR_SCENARIO_CONFIRM_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::scenario {

inline constexpr uint32_t kConfirmFactor = 4;
inline constexpr uint64_t kConfirmOtherSeeds = 3;

// Whether the judgement is FAIL, and every finding that decides it is of a threshold
// (FindingKindInfo.threshold).
bool NeedsConfirmation(const v1::Judgement& judgement);

// The speed at which a finding of a run at `ran_at` (RunRecord.vcpu_mips) is confirmed; nullopt:
// the scenario's machine has none above.
std::optional<uint32_t> ConfirmingSpeed(const v1::Scenario& scenario, uint32_t ran_at);

// The scenarios to run, in order. `ran_at`: RunRecord.vcpu_mips of the run to confirm. Without the
// run's own seed where no speed above `ran_at` exists.
std::vector<v1::Scenario> ConfirmingScenarios(const v1::Scenario& scenario, uint32_t ran_at);

// What one of these runs, of `scenario`, says of `judgement`.
v1::Confirmation MakeConfirmation(const v1::Judgement& judgement, const v1::Scenario& scenario,
                                  const std::vector<v1::Observation>& observations);

// Whether the run shows each finding of `judgement` that counts: the further runs are not needed.
bool ShowsAll(const v1::Judgement& judgement, const v1::Confirmation& confirmation);

// The judgement after these runs. A finding stays with the figures of both speeds when one of them
// shows a finding of its kind, and else becomes UNCONFIRMED.
v1::Judgement Confirmed(const v1::Judgement& judgement, uint32_t ran_at,
                        absl::Span<const v1::Confirmation> confirmations);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_CONFIRM_H_
