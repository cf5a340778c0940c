// SPDX-License-Identifier: Apache-2.0
//
// Whether a search's finding by a threshold (FindingKindInfo.threshold) shows at a higher speed of
// the virtual CPUs too. `run` asks four runs (scenario/confirm.h); a race that shows in one of ten
// seeds needs more of them.

#ifndef KTSTR_CLIENT_SEARCH_SPEED_CHECK_H_
#define KTSTR_CLIENT_SEARCH_SPEED_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/search/drive.h"
#include "client/search/finding_key.h"
#include "client/search/seed_range.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

// More runs than this take too long.
inline constexpr uint64_t kMaxSpeedCheckRuns = 32;

// What a search found by a threshold, with one strategy.
struct Suspect {
  FindingKey key;
  size_t strategy = 0;
  uint32_t vcpu_mips = 0;       // RunRecord.vcpu_mips of its runs.
  std::vector<uint64_t> seeds;  // Those that show it, ascending; at least one.
  uint64_t runs = 0;            // With a verdict.
};

struct SpeedCheck {
  uint32_t vcpu_mips = 0;  // RunRecord.vcpu_mips of these runs; 0: none was made.
  uint64_t needed = 0;     // Runs that decide (SpeedCheckRuns).
  uint64_t runs = 0;       // With a verdict.
  uint64_t shown = 0;      // Of these, runs that end with a finding of this kind.
  uint64_t seed = 0;       // One of them,
  std::string run_id;      // and its run.

  // As many runs as decide were made, and none shows it.
  bool Refutes() const { return needed > 0 && runs >= needed && shown == 0; }
};

// How many runs decide: at the rate of the search (the lower end of its interval) all of them pass
// by chance with a probability of 5 %. At least 4.
uint64_t SpeedCheckRuns(const Suspect& suspect);

// Makes runs of `spec` at four times the speed, of the seeds that show the finding and then of
// `seeds` and those after them, until one shows it, or as many have been made as decide, or
// kMaxSpeedCheckRuns. No run where there is no higher speed. Errors as of Trials::Run().
absl::StatusOr<SpeedCheck> CheckSpeed(const Suspect& suspect, const v1::RunSpec& spec,
                                      const SeedRange& seeds, Trials* trials);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_SPEED_CHECK_H_
