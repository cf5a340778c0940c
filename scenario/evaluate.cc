// SPDX-License-Identifier: Apache-2.0

#include "scenario/evaluate.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/string_view.h"
#include "scenario/facts.h"

namespace ktstr::scenario {
namespace {

using v1::VmEnd;

Candidate MakeError(const char* kind, std::string message, size_t order) {
  Candidate candidate;
  candidate.finding.set_kind(kind);
  candidate.finding.set_message(std::move(message));
  candidate.finding.set_where("guest");
  candidate.order = order;
  candidate.is_cause = true;
  candidate.is_error = true;
  return candidate;
}

std::string StageText(const VmEnd& end) {
  if (end.last_stage() == v1::STAGE_UNSPECIFIED) return "before the agent started";
  return absl::StrCat("at stage ", v1::Stage_Name(end.last_stage()));
}

std::string Detail(const VmEnd& end) {
  const std::string detail = OneLine(end.detail());
  return detail.empty() ? "" : absl::StrCat(": ", detail);
}

// The line of the console that holds `text`, from there on; empty when there is none.
std::string ConsoleLine(const VmEnd& end, absl::string_view text) {
  for (absl::string_view line : absl::StrSplit(end.console_tail(), '\n')) {
    const size_t at = line.find(text);
    if (at != absl::string_view::npos) return OneLine(base::ToStd(line.substr(at)));
  }
  return "";
}

bool SaysAnywhere(const VmEnd& end, absl::string_view text) {
  return absl::StrContains(end.console_tail(), text) || absl::StrContains(end.detail(), text);
}

// Software emulation can execute a half-patched instruction of the guest's kernel: "Oops: int3:
// 0000 [#1]".
bool IsEmulationFault(const VmEnd& end) {
  return SaysAnywhere(end, "Oops: int3") || SaysAnywhere(end, "int3: 0000 [#");
}

void AddPanic(const VmEnd& end, size_t order, std::vector<Candidate>* out) {
  if (SaysAnywhere(end, "Attempted to kill init")) {
    Candidate candidate = MakeError(
        "HARNESS", absl::StrCat("the guest agent died ", StageText(end), Detail(end)), order);
    candidate.may_follow = true;
    out->push_back(std::move(candidate));
    return;
  }
  const std::string line = ConsoleLine(end, "Kernel panic - not syncing");
  Candidate candidate;
  candidate.finding.set_kind("KERNEL_PANIC");
  candidate.finding.set_message(
      absl::StrCat("the guest's kernel panicked ", StageText(end),
                   line.empty() ? Detail(end) : absl::StrCat(": ", line)));
  candidate.finding.set_where("guest");
  candidate.order = order;
  candidate.is_cause = true;
  candidate.may_follow = true;
  out->push_back(std::move(candidate));
}

void AddTimeout(const VmEnd& end, size_t order, std::vector<Candidate>* out) {
  Candidate candidate;
  candidate.finding.set_kind("GUEST_TIMEOUT");
  candidate.finding.set_message(
      absl::StrCat("the guest did not finish within the host's time limit; it stood ",
                   StageText(end), Detail(end)));
  candidate.finding.set_where("guest");
  candidate.order = order;
  candidate.is_cause = true;
  candidate.may_follow = true;
  out->push_back(std::move(candidate));
}

void AddVmEnd(const VmEnd& end, size_t order, std::vector<Candidate>* out) {
  if (IsEmulationFault(end)) {
    Candidate candidate = MakeError(
        "ENGINE",
        absl::StrCat(
            "the guest's kernel hit an int3 oops ", StageText(end),
            ": a fault of software emulation, not a verdict on the scheduler; run it again"),
        order);
    candidate.voids_others = true;
    out->push_back(std::move(candidate));
    return;
  }
  // The kernel's last words outrank how the machine went down after them.
  if (end.cause() != VmEnd::DONE && SaysAnywhere(end, "Kernel panic - not syncing")) {
    AddPanic(end, order, out);
    return;
  }
  switch (end.cause()) {
    case VmEnd::DONE:
      return;
    case VmEnd::PANIC:
      AddPanic(end, order, out);
      return;
    case VmEnd::TIMEOUT:
      AddTimeout(end, order, out);
      return;
    case VmEnd::EARLY_POWER_OFF:
      out->push_back(MakeError(
          "HARNESS",
          absl::StrCat("the virtual machine powered off or reset ", StageText(end), Detail(end)),
          order));
      out->back().may_follow = true;
      return;
    case VmEnd::ENGINE_FAILED:
      out->push_back(MakeError(
          "ENGINE", absl::StrCat("the engine failed ", StageText(end), Detail(end)), order));
      return;
    case VmEnd::CANCELLED:
      out->push_back(MakeError(
          "CANCELLED", absl::StrCat("the run was cancelled ", StageText(end), Detail(end)), order));
      return;
    case VmEnd::GUEST_MISBEHAVED:
      out->push_back(MakeError(
          "GUEST_CHANNEL",
          absl::StrCat("the guest broke the rules of the channel ", StageText(end), Detail(end)),
          order));
      out->back().may_follow = true;
      return;
    case VmEnd::INTERRUPTED:
      out->push_back(
          MakeError("INTERRUPTED",
                    absl::StrCat("the run was interrupted ", StageText(end), Detail(end)), order));
      return;
    default:
      out->push_back(MakeError("HARNESS", "how the virtual machine ended is not known", order));
  }
}

// What a PASS needs and was not seen, after a machine that was put down in order.
void AddMissing(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  const size_t order = facts.vm_end.order;
  if (scenario.has_scheduler() && !facts.enabled) {
    Candidate candidate;
    candidate.finding.set_kind("SCHEDULER_NOT_ATTACHED");
    candidate.finding.set_message(absl::StrCat("the kernel never reported scheduler ",
                                               OneLine(base::Basename(scenario.scheduler().name())),
                                               " enabled"));
    candidate.finding.set_where("scheduler");
    candidate.order = order;
    candidate.is_cause = true;
    out->push_back(std::move(candidate));
    return;
  }
  if (scenario.has_scheduler() && !facts.stop) {
    out->push_back(MakeError("HARNESS", "how the scheduler ended was not observed", order));
  }
  if (facts.steps_ended < static_cast<uint32_t>(scenario.step_size())) {
    out->push_back(MakeError("HARNESS",
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
    out->push_back(MakeError("HARNESS",
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

// Puts a finding that voids the others first; they stay as what follows from it.
void ApplyVoiding(std::vector<Candidate>* candidates) {
  const auto it = std::find_if(candidates->begin(), candidates->end(),
                               [](const Candidate& candidate) { return candidate.voids_others; });
  if (it == candidates->end()) return;
  for (Candidate& candidate : *candidates)
    candidate.finding.set_consequence(!candidate.voids_others);
  std::rotate(candidates->begin(), it, it + 1);
}

v1::Verdict VerdictOf(const std::vector<Candidate>& candidates) {
  if (candidates.empty()) return v1::PASS;
  for (const Candidate& candidate : candidates) {
    if (!candidate.is_error && !candidate.finding.consequence()) return v1::FAIL;
  }
  return v1::ERROR;
}

}  // namespace

v1::Judgement Evaluate(const v1::Scenario& scenario,
                       const std::vector<v1::Observation>& observations) {
  const Facts facts = CollectFacts(scenario, observations);
  std::vector<Candidate> candidates;
  AddSchedulerFindings(scenario, facts, &candidates);
  for (const Seen<v1::GuestError>& error : facts.guest_errors) {
    candidates.push_back(
        MakeError("HARNESS", absl::StrCat("the guest agent failed: ", OneLine(error->message())),
                  error.order));
    candidates.back().may_follow = true;
  }
  if (!facts.impossible.empty()) {
    candidates.push_back(
        MakeError("GUEST_CHANNEL",
                  absl::StrCat("the guest's reports contradict the scenario: ", facts.impossible),
                  facts.impossible_order));
  }
  if (facts.vm_end) {
    AddVmEnd(*facts.vm_end.fact, facts.vm_end.order, &candidates);
    const bool explained =
        std::any_of(candidates.begin(), candidates.end(),
                    [](const Candidate& candidate) { return candidate.is_cause; });
    if (!explained) AddMissing(scenario, facts, &candidates);
  } else {
    candidates.push_back(MakeError("HARNESS", "the end of the virtual machine was not observed",
                                   observations.size()));
  }
  AddWorkerFindings(scenario, facts, &candidates);

  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.order < b.order; });
  MarkConsequences(&candidates);
  ApplyVoiding(&candidates);

  v1::Judgement judgement;
  judgement.set_verdict(VerdictOf(candidates));
  for (Candidate& candidate : candidates) *judgement.add_findings() = std::move(candidate.finding);
  return judgement;
}

}  // namespace ktstr::scenario
