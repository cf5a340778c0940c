// SPDX-License-Identifier: Apache-2.0
//
// The one place that makes a verdict: a pure function of the scenario and the observations, for any
// thread. The agent and the VM process only observe; the daemon calls this after a run.

#ifndef KTSTR_SCENARIO_EVALUATE_H_
#define KTSTR_SCENARIO_EVALUATE_H_

#include <string_view>
#include <vector>

#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::scenario {

// RunRecord.turns without a bound.
inline constexpr std::string_view kUnboundedTurns = "unbounded";

// `observations` come in the order of arrival with any content: the guest may lie, and the list may
// end anywhere.
//
// FAIL when a check failed, or the scheduler, a worker or the guest broke; else ERROR when the
// harness or its input failed; else INCONCLUSIVE when the run does not prove enough; else PASS.
// PASS needs proof: the kernel enabled the scheduler, the scheduler ran until the agent stopped it
// and scheduled at least one worker (as far as the kernel reports that), every step ended, every
// worker reported, and the agent reported DONE. What the machine does after DONE does not count.
// The guest's text decides nothing, with one exception: an int3 oops that ended the guest's kernel
// is a fault of the engine, which makes the run an ERROR whatever else it shows.
//
// Findings are in the order of guest time; those that follow from an earlier one are marked.
v1::Judgement Evaluate(const v1::Scenario& scenario,
                       const std::vector<v1::Observation>& observations);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_EVALUATE_H_
