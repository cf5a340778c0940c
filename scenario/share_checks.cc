// SPDX-License-Identifier: Apache-2.0
//
// Checks of shares: max_spread_pct between the workers of one `work`, max_weight_error_pct between
// siblings that compete. One finding for each cgroup, contest and check.

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scenario/checks.h"
#include "scenario/competition.h"
#include "scenario/enough_time.h"
#include "scenario/facts.h"

namespace ktstr::scenario {
namespace {

// Two siblings err by the same amount, apart from rounding: the finding is about the first.
constexpr double kRounding = 1e-6;

// No decimals, or one when rounding would hide that `percent` exceeds the threshold.
int Digits(double percent, double threshold) { return std::round(percent) > threshold ? 0 : 1; }

struct Spread {
  double low = 100, high = 0;
  int workers = 0;
  size_t order = 0;
  uint64_t wall_ns = std::numeric_limits<uint64_t>::max();  // Of the worker that ran shortest.
  std::set<uint32_t> cpus;
  double percent() const { return workers < 2 ? 0 : high - low; }
};

// By cgroup: the spread of the `work` whose workers are furthest apart.
std::map<std::string, Spread> SpreadsOf(const Facts& facts) {
  std::map<int, std::pair<std::string, Spread>> works;
  for (size_t i = 0; i < facts.workers.size(); ++i) {
    const Seen<v1::WorkerReport>& report = facts.reports[i];
    if (!report || report->wall_time_ns() == 0) continue;
    const double share = std::min(100.0, 100.0 * static_cast<double>(report->off_cpu_ns()) /
                                             static_cast<double>(report->wall_time_ns()));
    auto& [cgroup, spread] = works[facts.workers[i].work];
    cgroup = facts.workers[i].cgroup;
    spread.low = std::min(spread.low, share);
    spread.high = std::max(spread.high, share);
    spread.order = std::max(spread.order, report.order);
    spread.wall_ns = std::min(spread.wall_ns, report->wall_time_ns());
    spread.cpus.insert(report->cpus_used().begin(), report->cpus_used().end());
    ++spread.workers;
  }
  std::map<std::string, Spread> worst;
  for (auto& [work, of] : works) {
    auto& [cgroup, spread] = of;
    if (spread.workers < 2) continue;
    const auto [it, fresh] = worst.emplace(cgroup, spread);
    if (!fresh && spread.percent() > it->second.percent()) it->second = std::move(spread);
  }
  return worst;
}

void CheckSpread(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  constexpr int kNumber = v1::Checks::kMaxSpreadPctFieldNumber;
  const bool asked_for = IsSet(scenario.checks(), kNumber);
  // Different priorities are meant to give different shares.
  if (scenario.perturb().has_pct() && !asked_for) return;
  const double threshold = *ValueOf(scenario.checks(), kNumber);
  if (threshold >= 100) return;  // No spread exceeds 100 %.
  const uint64_t needed_ns = TimeForShare(threshold);
  for (const auto& [cgroup, spread] : SpreadsOf(facts)) {
    const double percent = spread.percent();
    const bool too_large = percent > threshold;
    const std::string where = absl::StrCat("cgroup ", cgroup);
    const int digits = Digits(percent, threshold);
    const std::string seen = absl::StrFormat(
        "spread=%.*f%% (%.*f-%.*f%%) %d workers on %d cpus (threshold %g%%)", digits, percent,
        digits, spread.low, digits, spread.high, spread.workers, spread.cpus.size(), threshold);
    if (spread.wall_ns < needed_ns) {
      if (!asked_for && !too_large) continue;
      out->push_back(
          MakeTooShort(CheckOf(kNumber), where, spread.wall_ns, needed_ns, seen, spread.order));
      continue;
    }
    if (!too_large) continue;
    Candidate candidate(FindingKind::kUnfair, where, spread.order);
    candidate.finding.set_message(absl::StrCat("unfair cgroup: ", seen));
    candidate.finding.set_observed(absl::StrFormat("%.*f%%", digits, percent));
    candidate.finding.set_threshold(absl::StrFormat("%g%%", threshold));
    candidate.may_follow = true;
    out->push_back(std::move(candidate));
  }
}

// What one competitor got. Not `complete` when a worker gave no report.
struct Got {
  double cpu_ns = 0;
  uint64_t wall_ns = std::numeric_limits<uint64_t>::max();
  size_t order = 0;
  bool complete = true;
};

Got GotOf(const Competitor& competitor, const Facts& facts) {
  Got got;
  for (const size_t worker : competitor.workers) {
    const Seen<v1::WorkerReport>& report = facts.reports[worker];
    if (!report) {
      got.complete = false;
      continue;
    }
    got.cpu_ns += static_cast<double>(report->cpu_time_ns());
    got.wall_ns = std::min(got.wall_ns, report->wall_time_ns());
    got.order = std::max(got.order, report.order);
  }
  return got;
}

void CheckContest(const Contest& contest, double threshold, const Facts& facts,
                  std::vector<Candidate>* out) {
  const Check& check = CheckOf(v1::Checks::kMaxWeightErrorPctFieldNumber);
  std::vector<Got> got;
  double got_ns = 0, expected_ns = 0;
  uint64_t wall_ns = std::numeric_limits<uint64_t>::max();
  size_t order = 0;
  for (const Competitor& competitor : contest.competitors) {
    got.push_back(GotOf(competitor, facts));
    if (!got.back().complete) return;  // That worker is a finding of its own.
    got_ns += got.back().cpu_ns;
    expected_ns += competitor.expected_ns;
    wall_ns = std::min(wall_ns, got.back().wall_ns);
    order = std::max(order, got.back().order);
  }
  double worst = -1, share = 0, by_weight = 0;
  const Competitor* of = nullptr;
  for (size_t i = 0; i < got.size(); ++i) {
    const double mine = got_ns > 0 ? 100 * got[i].cpu_ns / got_ns : 0;
    const double due = 100 * contest.competitors[i].expected_ns / expected_ns;
    if (std::abs(mine - due) <= worst + kRounding) continue;
    worst = std::abs(mine - due);
    share = mine;
    by_weight = due;
    of = &contest.competitors[i];
  }
  const std::string seen = absl::StrFormat(
      "%s got %.1f%% of the CPU time of %d siblings, %.1f%% by weight (threshold %g%%)", of->name,
      share, got.size(), by_weight, threshold);
  const uint64_t needed_ns = TimeForShare(threshold);
  if (wall_ns < needed_ns) {
    out->push_back(MakeTooShort(check, contest.where, wall_ns, needed_ns, seen, order));
    return;
  }
  if (worst <= threshold) return;
  Candidate candidate(FindingKind::kWeight, contest.where, order);
  candidate.finding.set_message(seen);
  candidate.finding.set_observed(absl::StrFormat("%.1f%%", worst));
  candidate.finding.set_threshold(absl::StrFormat("%g%%", threshold));
  candidate.may_follow = true;
  out->push_back(std::move(candidate));
}

void CheckWeights(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  constexpr int kNumber = v1::Checks::kMaxWeightErrorPctFieldNumber;
  if (!IsOn(scenario.checks(), kNumber) || scenario.perturb().has_pct()) return;
  if (!facts.topology.has_value()) return;
  for (const Contest& contest : CompetitionOf(scenario, *facts.topology).contests)
    CheckContest(contest, *ValueOf(scenario.checks(), kNumber), facts, out);
}

}  // namespace

void AddShareFindings(const v1::Scenario& scenario, const Facts& facts,
                      std::vector<Candidate>* candidates) {
  CheckSpread(scenario, facts, candidates);
  CheckWeights(scenario, facts, candidates);
}

}  // namespace ktstr::scenario
