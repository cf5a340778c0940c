// SPDX-License-Identifier: Apache-2.0
//
// A run in which the scheduler under test scheduled nothing, or was away for most of the time,
// proves nothing about it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "scenario/facts.h"
#include "scenario/plan.h"

namespace ktstr::scenario {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

Candidate MakeNotTested(std::string message, std::string where, size_t order) {
  Candidate candidate(FindingKind::kNotTested, std::move(where), order);
  candidate.finding.set_message(std::move(message));
  // The scheduler under test then caused nothing that the workers met.
  candidate.is_cause = true;
  return candidate;
}

// A scheduler that restarts is away until it is enabled again: the kernel's own one has the
// workers. Under virtual time a restart takes seconds, so a tenth of the time with it is enough.
void AddAway(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* candidates) {
  const uint64_t length_ns = DurationMs(scenario) * kNsPerMs;
  uint64_t away_ns = 0;
  for (const Seen<v1::SchedulerRestart>& restart : facts.restarts) {
    const uint64_t begin_ns = std::min(restart->scenario_time_ns(), length_ns);
    away_ns += std::min(restart->in_steps_ns(), length_ns - begin_ns);
    if (restart->unfinished()) {
      Candidate candidate = MakeNotTested(
          absl::StrCat("the scheduler, disabled at +", restart->scenario_time_ns() / kNsPerMs,
                       "ms, had not restarted when it was stopped: from there on the workers were "
                       "with the kernel's own scheduler. It had tried for ",
                       restart->length_ns() / kNsPerMs, "ms: a longer duration gives it time"),
          "scheduler", restart.order);
      candidate.is_cause = false;  // What workers met before counts.
      candidates->push_back(std::move(candidate));
      return;
    }
  }
  if (away_ns <= length_ns / 10 * 9) return;
  // The guest may report more than fits.
  const uint64_t away_ms = std::min(away_ns, length_ns) / kNsPerMs;
  const size_t count = facts.restarts.size();
  Candidate candidate = MakeNotTested(
      absl::StrCat("the scheduler was away for ", away_ms, " of ", length_ns / kNsPerMs, "ms (",
                   count, count == 1 ? " restart" : " restarts",
                   "): the workers were with the kernel's own scheduler meanwhile"),
      "scheduler", facts.restarts.front().order);
  candidate.is_cause = false;  // What workers met in the rest of the time counts.
  candidates->push_back(std::move(candidate));
}

}  // namespace

void AddNotTested(const v1::Scenario& scenario, const Facts& facts,
                  std::vector<Candidate>* candidates) {
  if (facts.workers.empty()) {
    candidates->push_back(MakeNotTested("the scenario has no worker: nothing was scheduled",
                                        "scenario", facts.vm_end.order));
    return;
  }
  if (!scenario.has_scheduler() || !facts.enabled) return;
  AddAway(scenario, facts, candidates);
  size_t outside = 0;
  size_t unknown = 0;
  size_t order = facts.vm_end.order;
  for (const Seen<v1::WorkerReport>& report : facts.reports) {
    // A worker without work may not have reached the code that reads its class; it is STARVED.
    if (!report || report->work_units() == 0) continue;
    if (report->ext_class()) return;
    ++(report->has_ext_class() ? outside : unknown);
    order = std::min(order, report.order);
  }
  const bool partial = facts.switch_all == false;
  if (outside + unknown == 0 || (unknown > 0 && !partial)) return;
  std::string message = absl::StrCat(
      "scheduler ", OneLine(base::Basename(scenario.scheduler().name())), " scheduled none of the ",
      facts.workers.size(), " workers: they stayed with the kernel's own scheduler");
  if (partial) {
    absl::StrAppend(&message,
                    " (switch_all is 0: with SCX_OPS_SWITCH_PARTIAL a scheduler has only tasks of "
                    "policy SCHED_EXT)");
  }
  candidates->push_back(MakeNotTested(std::move(message), "scheduler", order));
}

}  // namespace ktstr::scenario
