// SPDX-License-Identifier: Apache-2.0

#include "scenario/evaluate.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/string_view.h"
#include "scenario/facts.h"

namespace ktstr::scenario {
namespace {

// Adds what a PASS needs and the observations lack, when nothing else explains it.
void AddMissing(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  const size_t order = facts.vm_end.order;
  if (scenario.has_scheduler() && !facts.enabled) {
    Candidate candidate(FindingKind::kSchedulerNotAttached, "scheduler", order);
    candidate.finding.set_message(absl::StrCat("the kernel never reported scheduler ",
                                               OneLine(base::Basename(scenario.scheduler().name())),
                                               " enabled"));
    candidate.is_cause = true;
    out->push_back(std::move(candidate));
    return;
  }
  if (scenario.has_scheduler() && !facts.stop) {
    out->push_back(
        MakeCause(FindingKind::kHarness, "how the scheduler ended was not observed", order));
  }
  if (facts.steps_ended < static_cast<uint32_t>(scenario.step_size())) {
    out->push_back(MakeCause(FindingKind::kHarness,
                             absl::StrCat("only ", facts.steps_ended, " of ", scenario.step_size(),
                                          " steps were seen to end"),
                             order));
  }
  size_t silent = 0;
  size_t first = 0;
  for (size_t i = facts.workers.size(); i-- > 0;) {
    if (facts.reports[i] || facts.losses[i]) continue;
    ++silent;
    first = i;
  }
  if (silent > 0) {
    out->push_back(MakeCause(FindingKind::kHarness,
                             absl::StrCat("no report of ", silent, " of ", facts.workers.size(),
                                          " workers, the first is worker ", first, " in cgroup ",
                                          facts.workers[first].cgroup),
                             order));
  }
}

void MarkConsequences(std::vector<Candidate>* candidates) {
  bool cause_seen = false;
  for (Candidate& candidate : *candidates) {
    if (cause_seen && candidate.may_follow) candidate.finding.set_consequence(true);
    cause_seen |= candidate.is_cause;
  }
}

// A run that another cause ended early was not too short.
void DropTooShort(std::vector<Candidate>* candidates) {
  const auto is_one = [](const Candidate& candidate) {
    return candidate.finding.consequence() && IsKind(candidate.finding, FindingKind::kTooShort);
  };
  candidates->erase(std::remove_if(candidates->begin(), candidates->end(), is_one),
                    candidates->end());
}

// Puts a finding that voids the others first, and marks the others as consequences.
void ApplyVoiding(std::vector<Candidate>* candidates) {
  const auto it = std::find_if(candidates->begin(), candidates->end(),
                               [](const Candidate& candidate) { return candidate.voids_others; });
  if (it == candidates->end()) return;
  for (Candidate& candidate : *candidates)
    candidate.finding.set_consequence(!candidate.voids_others);
  std::rotate(candidates->begin(), it, it + 1);
}

// Where vCPUs execute for many milliseconds in turn, they and not the scheduler may cross a
// threshold.
void DoubtThresholds(std::vector<Candidate>* candidates) {
  for (Candidate& candidate : *candidates) {
    const FindingKindInfo* info = InfoOf(candidate.finding);
    if (info == nullptr || !info->threshold) continue;
    candidate.finding.set_message(
        absl::StrCat(candidate.finding.kind(),
                     " with unbounded turns of the vCPUs: ", candidate.finding.message()));
    SetKind(FindingKind::kUnconfirmed, &candidate.finding);
    candidate.verdict = InfoOf(FindingKind::kUnconfirmed).verdict;
  }
}

v1::Verdict VerdictOf(const std::vector<Candidate>& candidates) {
  bool seen[v1::Verdict_ARRAYSIZE] = {};
  for (const Candidate& candidate : candidates) {
    if (!candidate.finding.consequence()) seen[candidate.verdict] = true;
  }
  for (const v1::Verdict verdict : {v1::FAIL, v1::ERROR, v1::INCONCLUSIVE}) {
    if (seen[verdict]) return verdict;
  }
  return v1::PASS;
}

}  // namespace

v1::Judgement Evaluate(const v1::Scenario& scenario,
                       const std::vector<v1::Observation>& observations) {
  const Facts facts = CollectFacts(scenario, observations);
  std::vector<Candidate> candidates;
  AddMemoryFindings(facts, &candidates);
  AddSchedulerFindings(scenario, facts, &candidates);
  AddOperationFindings(scenario, facts, &candidates);
  for (const Seen<v1::GuestError>& error : facts.guest_errors) {
    const std::string message = OneLine(error->message());
    candidates.push_back(error->bad_input()
                             ? MakeCause(FindingKind::kBadInput, message, error.order)
                             : MakeCause(FindingKind::kHarness,
                                         absl::StrCat("the guest agent failed: ", message),
                                         error.order));
    candidates.back().may_follow = true;
  }
  if (!facts.impossible.empty()) {
    candidates.push_back(
        MakeCause(FindingKind::kGuestChannel,
                  absl::StrCat("the guest's reports contradict the scenario: ", facts.impossible),
                  facts.impossible_order));
  }
  if (facts.vm_end) {
    AddVmEndFindings(facts, &candidates);
    const bool explained =
        std::any_of(candidates.begin(), candidates.end(),
                    [](const Candidate& candidate) { return candidate.is_cause; });
    if (!explained) {
      AddMissing(scenario, facts, &candidates);
      AddNotTested(scenario, facts, &candidates);
    }
  } else {
    candidates.push_back(MakeCause(FindingKind::kHarness,
                                   "the end of the virtual machine was not observed",
                                   observations.size()));
  }
  AddWorkerFindings(scenario, facts, &candidates);
  AddShareFindings(scenario, facts, &candidates);

  if (facts.vm_end && facts.vm_end->turns() == kUnboundedTurns) DoubtThresholds(&candidates);

  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.order < b.order; });
  MarkConsequences(&candidates);
  DropTooShort(&candidates);
  ApplyVoiding(&candidates);

  v1::Judgement judgement;
  judgement.set_verdict(VerdictOf(candidates));
  for (Candidate& candidate : candidates) *judgement.add_findings() = std::move(candidate.finding);
  return judgement;
}

}  // namespace ktstr::scenario
