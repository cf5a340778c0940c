// SPDX-License-Identifier: Apache-2.0
//
// The results of a search over seeds: counts runs by strategy and failures by distinct finding, as
// text and as JSON. No clock, no terminal. One thread at a time.

#ifndef KTSTR_CLIENT_SEARCH_TALLY_H_
#define KTSTR_CLIENT_SEARCH_TALLY_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/exit_codes.h"
#include "client/search/finding_key.h"
#include "client/search/speed_check.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

class Tally {
 public:
  // `planned`: the number of runs to make, of all strategies.
  Tally(std::vector<std::string> strategies, uint64_t planned)
      : strategies_(std::move(strategies)), counts_(strategies_.size()), planned_(planned) {}

  // Adds a run that ended. A cancelled run does not count: its seed was not tried.
  void Add(size_t strategy, const v1::RunRecord& record);

  // What runs found by nothing but thresholds, most frequent first, one for each strategy that
  // shows it.
  std::vector<Suspect> Suspects() const;
  // Runs with a finding that the check refutes are unconfirmed, and count as inconclusive.
  void SetSpeedCheck(const Suspect& suspect, const SpeedCheck& check);

  uint64_t planned() const { return planned_; }
  uint64_t done() const;                     // Runs with a verdict, ERROR included.
  uint64_t known() const { return known_; }  // Of these, those that an earlier search made.
  uint64_t not_tried() const { return planned_ - done(); }
  uint64_t failures() const;
  uint64_t errors() const;
  // Every run so far ended as ERROR, and there are at least five: the harness does not work here.
  bool Hopeless() const { return errors() >= 5 && errors() == done(); }

  // "37 of 200 seeds, 12 known, 1.9 a second, 3 failures, 2 distinct findings: STUCK (cgroup left)
  // 2, SCHEDULER_DIED (scheduler) 1"; known runs have no part in a rate.
  std::string Progress(absl::Duration elapsed) const;
  // The report at the end, several lines.
  std::string Report(absl::Duration elapsed) const;
  // One line for one run, and one object for all; both end with a newline.
  absl::StatusOr<std::string> RunJson(size_t strategy, const v1::RunRecord& record) const;
  absl::StatusOr<std::string> SummaryJson(absl::Duration elapsed,
                                          const std::string& stopped_by) const;
  // 1 with a failure, else 70 with an error (65 when the input caused all errors), else 2 when a
  // run was inconclusive or none was made, else 0.
  ExitCode Code() const;

 private:
  struct Failure {
    uint64_t seed = 0;
    std::string run_id;
    std::string reproduce;
  };
  struct Found {
    // By strategy, in the order of seeds.
    std::vector<std::map<uint64_t, Failure>> failures;
    uint64_t total = 0;
    bool by_thresholds = true;       // All of these runs failed by nothing else.
    uint32_t vcpu_mips = 0;          // Of one of them.
    std::vector<SpeedCheck> checks;  // By strategy.
  };
  // Of all strategies, unconfirmed runs as inconclusive.
  VerdictCounts All() const;
  // Runs that passed or failed.
  uint64_t Judged(size_t strategy) const;
  // "37 seeds", and "74 runs" of two strategies.
  std::string Tried(uint64_t runs) const;
  std::string FoundText(const FindingKey& key, const Found& found) const;
  // Most frequent first.
  std::vector<const std::pair<const FindingKey, Found>*> Sorted() const;

  const std::vector<std::string> strategies_;
  std::vector<VerdictCounts> counts_;  // By strategy.
  const uint64_t planned_;
  uint64_t known_ = 0;
  std::set<uint64_t> seeds_;  // Of runs with a verdict.
  std::map<FindingKey, Found> found_;
  std::string first_error_;  // Of the first ERROR: its finding and run.
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_TALLY_H_
