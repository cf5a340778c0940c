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

// Runs that must be equal: the same scenario, kernel, scheduler and seed, and started alike (a cold
// boot and a restored snapshot have their own histories and may differ from each other).
struct RepeatGroup {
  v1::RunRecord first;
  int compared = 0;  // Runs whose digest was looked at, the first included.
  // The first run whose digest is another one; no run_id: all are equal.
  v1::RunRecord differing;
  bool differs() const { return !differing.run_id().empty(); }
};

struct RepeatCheck {
  std::vector<RepeatGroup> groups;
  // Why runs were left out, one line each: "r-0007: the guest waited for ...".
  std::vector<std::string> left_out;
};

// Looks at tcg runs that ended with PASS or FAIL. Left out with a reason: runs without a digest,
// and runs whose guest waited for the host to empty the channel (channel.full_waits): there the
// host's pace got into the guest.
RepeatCheck CheckRepeats(const std::vector<v1::RunRecord>& records);

// What is the first thing that two runs saw differently, in one line: "event 12 at +350.001000 ms:
// {...} here, {...} there". What the host measured is no part of it. Empty: they saw the same.
std::string FirstDifference(const v1::RunObservations& here, const v1::RunObservations& there);

// The ERROR record that says so: no run_id, one finding NONDETERMINISM. `difference` as of
// FirstDifference.
v1::RunRecord NondeterminismRecord(const RepeatGroup& group, const std::string& difference);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_REPEAT_CHECK_H_
