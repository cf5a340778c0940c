// SPDX-License-Identifier: Apache-2.0
//
// Finds the smallest scenario that still fails: proposes smaller ones, and goes on from those that
// the caller reports as failing. Knows neither runs nor daemon. One thread.
//
//   Reducer reducer(scenario);
//   while (auto candidate = reducer.Next()) reducer.Report(StillFails(*candidate));
//   Use(reducer.best());
//
// Reduces lists (steps, cgroups, works, and the settings that a scenario can do without) by
// ddmin (A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE
// 28(2), 2002): leave out all, then halves, quarters, ... down to single elements. Of ddmin's two
// kinds of candidates Reducer tries only complements; at two parts they are the subsets. It bisects
// numbers (workers, intensity, duration, the topology's counts, ...) between the smallest allowed
// value and the one that fails. It repeats all this until a whole round finds nothing.
//
// The result is 1-minimal: it passes without any single element, and every number is the smallest
// allowed or at most one grain above a value that passes. The oracle must be deterministic, but it
// need not be monotone. Every candidate that still fails is smaller, so the search ends.

#ifndef KTSTR_CLIENT_SEARCH_REDUCER_H_
#define KTSTR_CLIENT_SEARCH_REDUCER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ktstr/v1/scenario.pb.h"

namespace ktstr::client {

class Reducer {
 public:
  // `start` is valid and fails.
  explicit Reducer(v1::Scenario start) : best_(std::move(start)) {}

  // A valid scenario that is smaller than best() and was not reported as passing before; nullopt
  // when there is none left. Call Report() before the next one.
  std::optional<v1::Scenario> Next();
  // Whether the last candidate still fails.
  void Report(bool still_fails);

  const v1::Scenario& best() const { return best_; }
  // What the last candidate changes: "without cgroup left", "duration 2000 to 100".
  const std::string& change() const { return change_; }

 private:
  // Something that can be left out; a later one is left out before an earlier one.
  struct Item {
    std::string name;
    std::function<void(v1::Scenario*)> remove;
  };
  // Something that can be made smaller.
  struct Number {
    std::string name;
    uint32_t value;
    uint32_t low;
    uint32_t grain;
    std::function<void(v1::Scenario*, uint32_t)> set;
  };
  static std::vector<Item> Steps(const v1::Scenario& scenario);
  static std::vector<Item> Cgroups(const v1::Scenario& scenario);
  static std::vector<Item> Works(const v1::Scenario& scenario);
  static std::vector<Item> Settings(const v1::Scenario& scenario);
  static std::vector<Item> Disturbances(const v1::Scenario& scenario);
  static std::vector<Number> Numbers(const v1::Scenario& scenario);
  static std::vector<Number> TopologyNumbers(const v1::Scenario& scenario);

  // The next candidate of the pass, valid or not; nullopt at its end.
  std::optional<v1::Scenario> Propose();
  std::optional<v1::Scenario> ProposeList(const std::vector<Item>& items);
  std::optional<v1::Scenario> ProposeNumber();
  void Advance(bool still_fails);
  // False when a round found nothing.
  bool NextPass();

  v1::Scenario best_;
  v1::Scenario candidate_;
  std::string change_;
  std::set<std::string> refused_;  // Serialized.
  size_t pass_ = 0;
  bool round_helped_ = false;
  // Lists: `chunk_` elements from `at_` on are left out; 0: the pass begins.
  size_t chunk_ = 0;
  size_t at_ = 0;
  bool sweep_helped_ = false;
  // Numbers: which one, the value tried, and the largest one known not to fail.
  size_t number_ = 0;
  uint32_t tried_ = 0;
  std::optional<uint32_t> lost_at_;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_REDUCER_H_
