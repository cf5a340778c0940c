// SPDX-License-Identifier: Apache-2.0
//
// The one place where a verdict is made: a pure function of the scenario and of what was seen. The
// agent and the VM process only observe; the daemon calls this after a run, and `results recheck`
// may call it again years later.

#ifndef KTSTR_SCENARIO_EVALUATE_H_
#define KTSTR_SCENARIO_EVALUATE_H_

#include <vector>

#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::scenario {

// `observations` in the order in which they came, of any content: the guest may lie, and the list
// may end anywhere. Judged in the order of guest time.
//
// FAIL when a check failed or the scheduler, a worker or the guest broke; else ERROR when the
// harness could not do its work; else PASS. PASS needs proof: the scheduler was enabled and lived
// until it was stopped, every step ended, every worker reported, and the machine was put down in
// order. Findings come in the order in which their facts came; what follows from an earlier one is
// marked. What the machine does after the agent has reported DONE does not count,
// and the guest's text decides nothing. An int3 oops that ended the guest's kernel is the engine's
// fault and voids all else: ERROR.
v1::Judgement Evaluate(const v1::Scenario& scenario,
                       const std::vector<v1::Observation>& observations);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_EVALUATE_H_
