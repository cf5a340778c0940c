// SPDX-License-Identifier: Apache-2.0
//
// Checks the meaning of a scenario before anything boots: every range, name, reference and cpuset.
// The client calls it by parse.h, which adds places in a file; the daemon calls it for what it
// receives. Pure; any thread.

#ifndef KTSTR_SCENARIO_VALIDATE_H_
#define KTSTR_SCENARIO_VALIDATE_H_

#include <vector>

#include "absl/status/status.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/problem.h"

namespace ktstr::scenario {

// All problems, with their field but without file and place. Empty: MakeGuestPlan accepts the
// scenario.
std::vector<Problem> Validate(const v1::Scenario& scenario);

// InvalidArgument with all problems, one per line.
absl::Status ValidationStatus(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_VALIDATE_H_
