// SPDX-License-Identifier: Apache-2.0
//
// How the virtual machine ended, and what that means for the verdict.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/string_view.h"
#include "scenario/facts.h"

namespace ktstr::scenario {
namespace {

using v1::VmEnd;

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
    Candidate candidate =
        MakeCause(FindingKind::kHarness,
                  absl::StrCat("the guest agent died ", StageText(end), Detail(end)), order);
    candidate.may_follow = true;
    out->push_back(std::move(candidate));
    return;
  }
  const std::string line = ConsoleLine(end, "Kernel panic - not syncing");
  Candidate candidate =
      MakeCause(FindingKind::kKernelPanic,
                absl::StrCat("the guest's kernel panicked ", StageText(end),
                             line.empty() ? Detail(end) : absl::StrCat(": ", line)),
                order);
  candidate.may_follow = true;
  out->push_back(std::move(candidate));
}

void AddTimeout(const VmEnd& end, size_t order, std::vector<Candidate>* out) {
  Candidate candidate =
      MakeCause(FindingKind::kGuestTimeout,
                absl::StrCat("the guest did not finish within the host's time limit; it stood ",
                             StageText(end), Detail(end)),
                order);
  candidate.may_follow = true;
  out->push_back(std::move(candidate));
}

}  // namespace

void AddVmEndFindings(const VmEnd& end, size_t order, std::vector<Candidate>* out) {
  if (IsEmulationFault(end)) {
    Candidate candidate = MakeCause(
        FindingKind::kEngine,
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
      out->push_back(MakeCause(
          FindingKind::kHarness,
          absl::StrCat("the virtual machine powered off or reset ", StageText(end), Detail(end)),
          order));
      out->back().may_follow = true;
      return;
    case VmEnd::ENGINE_FAILED:
      out->push_back(MakeCause(FindingKind::kEngine,
                               absl::StrCat("the engine failed ", StageText(end), Detail(end)),
                               order));
      return;
    case VmEnd::CANCELLED:
      out->push_back(MakeCause(FindingKind::kCancelled,
                               absl::StrCat("the run was cancelled ", StageText(end), Detail(end)),
                               order));
      return;
    case VmEnd::GUEST_MISBEHAVED:
      out->push_back(MakeCause(
          FindingKind::kGuestChannel,
          absl::StrCat("the guest broke the rules of the channel ", StageText(end), Detail(end)),
          order));
      out->back().may_follow = true;
      return;
    case VmEnd::INTERRUPTED:
      out->push_back(
          MakeCause(FindingKind::kInterrupted,
                    absl::StrCat("the run was interrupted ", StageText(end), Detail(end)), order));
      return;
    default:
      out->push_back(
          MakeCause(FindingKind::kHarness, "how the virtual machine ended is not known", order));
  }
}

}  // namespace ktstr::scenario
