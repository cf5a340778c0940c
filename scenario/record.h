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

// The name of a record's file, in the daemon's run directories and where ktstrctl writes them:
// "steady-scx_mine-1n1l4c1t-tcg-s1-3f9a0c12.ktstr.json". Runs of one variant have one name; what
// the digits stand for is the whole scenario (arguments of the scheduler, perturbation, steps),
// flag profile and kernel, so that other variants have another one. From the second `repetition`
// on, which begins at 1, its number stands behind the digits: for whoever keeps them all.
std::string RecordFileName(const v1::RunRecord& record, int repetition = 1);
// Text from outside as one component of a path: never empty, ".", ".." or hidden, at most 65
// characters.
std::string FileNamePart(std::string text);

// SHA-256 of the deterministic serialization, lower-case hex.
std::string ScenarioDigest(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_RECORD_H_
