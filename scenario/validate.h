// SPDX-License-Identifier: Apache-2.0
//
// The meaning of a scenario: every range, name, reference and cpuset, checked before anything
// boots. The client does it with places in a file (parse.h), the daemon again on what it receives.

#ifndef KTSTR_SCENARIO_VALIDATE_H_
#define KTSTR_SCENARIO_VALIDATE_H_

#include <vector>

#include "absl/status/status.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/problem.h"

namespace ktstr::scenario {

// Every problem, in the order of the message's fields; `field` set, no file and no place. Empty:
// the scenario can be planned.
std::vector<Problem> Validate(const v1::Scenario& scenario);

// InvalidArgument with all problems, one a line.
absl::Status ValidationStatus(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_VALIDATE_H_
