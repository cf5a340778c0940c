// SPDX-License-Identifier: Apache-2.0
//
// Makes the run record, which the daemon keeps and the client shows, from observations and
// judgement. Pure; any thread.

#ifndef KTSTR_SCENARIO_RECORD_H_
#define KTSTR_SCENARIO_RECORD_H_

#include <string>
#include <vector>

#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::scenario {

// Fills the fields that the arguments determine: schema version, scenario name and digest, the
// variant's topology, profile, work type and seed, the scheduler's name, verdict, findings,
// workers, kernel version and command line, guest digest, engine version, scheduler log, console
// tail, stage, channel numbers, the scheduler's end, what went wrong after DONE, and the timings
// that the VM process measured (start, attach, scenario, teardown). The daemon fills the other
// fields.
void FillRecord(const v1::Scenario& scenario, const std::vector<v1::Observation>& observations,
                const v1::Judgement& judgement, v1::RunRecord* record);

// Name of a record's file, in the daemon's run directories and where ktstrctl writes it:
// "steady-scx_mine-1n1l4c1t-tcg-s1-3f9a0c12.ktstr.json". The 8 digits are of a digest of the whole
// scenario (scheduler arguments, perturbation, steps), flag profile and kernel: runs of one variant
// share a name, other variants have other names. A `repetition` above 1 follows the digits, so that
// a client can keep all repetitions of a run.
std::string RecordFileName(const v1::RunRecord& record, int repetition = 1);
// Makes untrusted text a component of a path: never empty, ".", ".." or hidden, at most 65
// characters.
std::string FileNamePart(std::string text);

// SHA-256 of the deterministic serialization, lower-case hex.
std::string ScenarioDigest(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_RECORD_H_
