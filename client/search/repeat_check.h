// SPDX-License-Identifier: Apache-2.0
//
// `run --repeat` under virtual time: runs of one variant must leave the same guest memory. Pure
// functions, any thread.

#ifndef KTSTR_CLIENT_SEARCH_REPEAT_CHECK_H_
#define KTSTR_CLIENT_SEARCH_REPEAT_CHECK_H_

#include <string>
#include <vector>

#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

// Runs that must be equal: the same scenario, kernel, topology, scheduler and seed, and the same
// start (a cold boot and a restored snapshot have different histories and may differ).
struct RepeatGroup {
  v1::RunRecord first;
  int compared = 0;  // Runs of the group, the first included.
  // The first run with a different digest; without run_id: all are equal.
  v1::RunRecord differing;
  bool differs() const { return !differing.run_id().empty(); }
};

struct RepeatCheck {
  std::vector<RepeatGroup> groups;
  // Why runs were left out, one line each: "r-0007 is not comparable: its machine stopped ...".
  std::vector<std::string> left_out;
};

// Compares tcg runs that ended with PASS or FAIL. Leaves out, with the reason, runs without a
// digest and runs whose machine stopped for a full ring (channel.full_waits): their
// result depends on the host's speed.
RepeatCheck CheckRepeats(const std::vector<v1::RunRecord>& records);

// The first difference between the observations of two runs, in one line: "event 12: step_mark
// { step: 1 } at 350.001000 ms, against ...". Ignores the times of the host. Empty: no difference.
std::string FirstDifference(const v1::RunObservations& here, const v1::RunObservations& there);

// The ERROR record of a group that differs: no run_id, one finding NONDETERMINISM. `difference`:
// the result of FirstDifference.
v1::RunRecord NondeterminismRecord(const RepeatGroup& group, const std::string& difference);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_REPEAT_CHECK_H_
