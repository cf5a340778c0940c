// SPDX-License-Identifier: Apache-2.0
//
// A run in which the scheduler under test scheduled nothing proves nothing about it.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "scenario/facts.h"

namespace ktstr::scenario {
namespace {

Candidate MakeNotTested(std::string message, std::string where, size_t order) {
  Candidate candidate(FindingKind::kNotTested, std::move(where), order);
  candidate.finding.set_message(std::move(message));
  // The scheduler under test then caused nothing that the workers met.
  candidate.is_cause = true;
  return candidate;
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
