// SPDX-License-Identifier: Apache-2.0
//
// Observations and judgement -> the run record that is kept and shown.

#ifndef KTSTR_SCENARIO_RECORD_H_
#define KTSTR_SCENARIO_RECORD_H_

#include <string>
#include <vector>

#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::scenario {

// Fills what follows from its arguments: schema version, scenario name and digest, the variant's
// topology, profile, work type and seed, the scheduler's name, verdict, findings, workers, kernel
// version and command line, guest digest, engine version, scheduler log (at most 1 MiB), console
// tail (20 lines), stage, channel numbers, and the timings that the VM process measured (start,
// attach, scenario, teardown). Leaves the other fields alone: the daemon knows them.
void FillRecord(const v1::Scenario& scenario, const std::vector<v1::Observation>& observations,
                const v1::Judgement& judgement, v1::RunRecord* record);

// SHA-256 of the deterministic serialization, lower-case hex.
std::string ScenarioDigest(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_RECORD_H_
