// SPDX-License-Identifier: Apache-2.0
//
// Findings about the end of the virtual machine. They depend on the cause, which the engine or the
// window reports (VmEnd.cause), and on the stage, which the agent reports. Console text only
// explains an end, because any program in the guest can write it; IsEmulationFault is the one
// exception.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/cpu_list.h"
#include "base/string_view.h"
#include "scenario/facts.h"

namespace ktstr::scenario {
namespace {

using v1::VmEnd;

constexpr char kPanic[] = "Kernel panic - not syncing: ";
constexpr char kBlocked[] = "INFO: task ";

std::string StageText(const VmEnd& end) {
  if (end.last_stage() == v1::STAGE_UNSPECIFIED) return "before the agent started";
  return absl::StrCat("at stage ", v1::Stage_Name(end.last_stage()));
}

std::string Detail(const VmEnd& end) {
  const std::string detail = OneLine(end.detail());
  return detail.empty() ? "" : absl::StrCat(": ", detail);
}

// "[    1.234567][   T12] text" -> "text"
absl::string_view WithoutStamp(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  while (absl::StartsWith(line, "[") && line.find(']') != absl::string_view::npos) {
    line = absl::StripLeadingAsciiWhitespace(line.substr(line.find(']') + 1));
  }
  return line;
}

// What the console shows of a panic: its line, and the first line of its cause.
struct LastWords {
  std::string panic;  // "Fatal exception"; empty when the kernel did not panic.
  std::string cause;  // "BUG: kernel NULL pointer dereference, address: 0"
};

LastWords LastWordsOf(const VmEnd& end) {
  LastWords words;
  for (const std::string& raw : end.crash_line()) {
    absl::string_view line = WithoutStamp(raw);
    if (absl::ConsumePrefix(&line, kPanic)) {
      words.panic = OneLine(base::ToStd(line));
    } else if (absl::StartsWith(line, "sysrq: Resetting") || absl::StartsWith(line, "reboot: ")) {
      words = {};  // The kernel ran on: it did not panic.
    } else if (words.cause.empty() && !absl::StartsWith(line, kBlocked)) {
      words.cause = OneLine(base::ToStd(line));
    }
  }
  // An older record has the panic line in its detail.
  absl::string_view detail = end.detail();
  if (end.crash_line().empty() && absl::ConsumePrefix(&detail, kPanic)) {
    words.panic = OneLine(base::ToStd(detail));
  }
  return words;
}

// ": Kernel panic - not syncing: Fatal exception (BUG: …)"; empty when the kernel did not panic.
std::string PanicText(const LastWords& words) {
  if (words.panic.empty()) return "";
  return absl::StrCat(": ", kPanic, words.panic,
                      words.cause.empty() ? "" : absl::StrCat(" (", words.cause, ")"));
}

// Software emulation can execute a half-patched instruction of the guest's kernel. The kernel then
// prints an oops "int3: 0000 [#1]" and panics because of it.
bool IsEmulationFault(const LastWords& words) {
  absl::string_view cause = words.cause;
  absl::ConsumePrefix(&cause, "Oops: ");
  return absl::StartsWith(cause, "int3: 0000 [#") &&
         absl::StartsWith(words.panic, "Fatal exception");
}

std::string PlaceText(const v1::VcpuState& vcpu) {
  const std::string address = absl::StrCat("0x", absl::Hex(vcpu.rip()));
  const std::string symbol = OneLine(vcpu.symbol());
  return absl::StrCat(vcpu.halted()       ? "halted"
                      : vcpu.user_space() ? "in user space"
                                          : "in the kernel",
                      " at ", symbol.empty() ? address : absl::StrCat(symbol, " (", address, ")"));
}

// "; vCPUs: cpu0 in user space at 0x40100b, cpu1-3 halted at do_idle+0x4f (0xffffffff810cf9a3)"
std::string VcpuText(const VmEnd& end) {
  std::vector<std::pair<std::string, std::vector<int>>> places;
  for (const v1::VcpuState& vcpu : end.vcpu()) {
    std::string place = PlaceText(vcpu);
    const auto known = std::find_if(places.begin(), places.end(),
                                    [&](const auto& other) { return other.first == place; });
    if (known != places.end()) {
      known->second.push_back(static_cast<int>(vcpu.cpu()));
    } else {
      places.emplace_back(std::move(place), std::vector<int>{static_cast<int>(vcpu.cpu())});
    }
  }
  std::string text;
  for (const auto& [place, cpus] : places) {
    absl::StrAppend(&text, text.empty() ? "; vCPUs: " : ", ", "cpu", base::FormatCpuList(cpus), " ",
                    place);
  }
  return text;
}

// What the kernel's watch over hung tasks prints (kernel/hung_task.c), each task once:
//   INFO: task NAME:PID blocked for more than N seconds.
// "; the kernel's log has blocked tasks: cpuhp/1, kworker/0:1"
std::string BlockedText(const VmEnd& end) {
  std::vector<std::string> names;
  for (const std::string& raw : end.crash_line()) {
    absl::string_view line = WithoutStamp(raw);
    if (!absl::ConsumePrefix(&line, kBlocked)) continue;
    const size_t end_of_name = line.find(" blocked for more than ");
    if (end_of_name == absl::string_view::npos) continue;  // Who holds its lock.
    line = line.substr(0, end_of_name);
    std::string name = OneLine(base::ToStd(line.substr(0, line.rfind(':'))));
    if (std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(std::move(name));
  }
  if (names.empty()) return "";
  return absl::StrCat("; the kernel's log has blocked tasks: ", absl::StrJoin(names, ", "));
}

class EndJudge {
 public:
  EndJudge(const Facts& facts, std::vector<Candidate>* out)
      : end_(*facts.vm_end.fact), facts_(facts), out_(out) {}

  void Judge() {
    switch (end_.cause()) {
      case VmEnd::DONE:
        return;
      case VmEnd::CANCELLED:
        return Add(FindingKind::kCancelled, absl::StrCat("the run was cancelled", Where()));
      case VmEnd::INTERRUPTED:
        return Add(FindingKind::kInterrupted, absl::StrCat("the run was interrupted", Where()));
      case VmEnd::GUEST_MISBEHAVED:
        Add(FindingKind::kGuestChannel,
            absl::StrCat("the guest broke the rules of the channel", Where()));
        out_->back().may_follow = true;
        return;
      default:
        break;
    }
    // The observations are complete: what the machine does afterwards does not matter.
    if (facts_.stage >= v1::DONE) return;
    switch (end_.cause()) {
      case VmEnd::ENGINE_FAILED:
        return Add(FindingKind::kEngine, absl::StrCat("the engine failed", Where()));
      case VmEnd::TIMEOUT:
        Add(FindingKind::kHostTimeout,
            absl::StrCat("the run did not finish within the host's time limit; the guest stood",
                         Where(), VcpuText(end_)));
        out_->back().may_follow = true;
        return;
      case VmEnd::EARLY_POWER_OFF:
        Add(FindingKind::kHarness,
            absl::StrCat("the virtual machine powered off or reset", Where()));
        out_->back().may_follow = true;
        return;
      case VmEnd::PANIC:
      case VmEnd::GUEST_RESET:
      case VmEnd::GUEST_POWERED_OFF:
      case VmEnd::GUEST_HUNG:
        return JudgeGuest();
      default:
        Add(FindingKind::kHarness, "how the virtual machine ended is not known");
    }
  }

 private:
  void Add(FindingKind kind, std::string message) {
    out_->push_back(MakeCause(kind, std::move(message), facts_.vm_end.order));
  }
  // " at stage READY: DETAIL"
  std::string Where() const { return absl::StrCat(" ", StageText(end_), Detail(end_)); }

  std::string AgentError() const {
    const std::string error = OneLine(end_.agent_error());
    return error.empty() ? "" : absl::StrCat("; the agent reported: ", error);
  }

  // The guest itself ended, or hung.
  void JudgeGuest() {
    const LastWords words = LastWordsOf(end_);
    const std::string why = PanicText(words);
    const bool panicked = end_.cause() == VmEnd::PANIC || !words.panic.empty();
    const bool went_down = panicked || end_.cause() == VmEnd::GUEST_RESET;
    if (end_.cause() != VmEnd::GUEST_HUNG && IsEmulationFault(words)) {
      Add(FindingKind::kEngine,
          absl::StrCat("the guest's kernel hit an int3 oops ", StageText(end_),
                       ": a fault of software emulation, not a verdict on the "
                       "scheduler; run it again"));
      out_->back().voids_others = true;
      return;
    }
    if (facts_.stage < v1::READY) {
      Add(FindingKind::kHarness,
          absl::StrCat("the guest's kernel never reached the agent; it ", Verb(panicked), " ",
                       StageText(end_), why, Detail(end_), VcpuText(end_), AgentError()));
      return;
    }
    if (end_.cause() == VmEnd::GUEST_HUNG) {
      Add(FindingKind::kGuestTimeout,
          absl::StrCat("the guest hung; it stood", Where(), VcpuText(end_), BlockedText(end_)));
    } else if (end_.agent_gave_up()) {
      Add(FindingKind::kHarness,
          absl::StrCat("the agent ended the machine", Where(), AgentError()));
    } else if (absl::StartsWith(words.panic, "Attempted to kill init!")) {
      Add(FindingKind::kHarness, absl::StrCat("the guest agent died ", StageText(end_), why));
    } else if (panicked) {
      Add(FindingKind::kKernelPanic,
          absl::StrCat("the guest's kernel panicked ", StageText(end_), why, Detail(end_)));
    } else {
      Add(FindingKind::kGuestEnded,
          absl::StrCat(went_down ? "the guest reset the machine "
                                 : "something in the guest powered the machine off ",
                       StageText(end_), Detail(end_), AgentError()));
    }
    out_->back().may_follow = true;
  }

  const char* Verb(bool panicked) const {
    if (end_.cause() == VmEnd::GUEST_HUNG) return "hung";
    if (panicked) return "panicked";
    return end_.cause() == VmEnd::GUEST_RESET ? "reset the machine" : "powered off";
  }

  const VmEnd& end_;
  const Facts& facts_;
  std::vector<Candidate>* out_;
};

}  // namespace

std::string AfterDoneText(const VmEnd& end) {
  const LastWords words = LastWordsOf(end);
  switch (end.cause()) {
    case VmEnd::DONE:
      return end.detail().empty() ? "" : absl::StrCat(OneLine(end.detail()), VcpuText(end));
    case VmEnd::PANIC:
    case VmEnd::GUEST_RESET:
      return end.cause() == VmEnd::PANIC || !words.panic.empty()
                 ? absl::StrCat("the guest's kernel panicked after DONE", PanicText(words))
                 : "the guest reset the machine after DONE";
    case VmEnd::GUEST_POWERED_OFF:
    case VmEnd::EARLY_POWER_OFF:
      return "the machine powered off after DONE, before its last doorbell";
    case VmEnd::GUEST_HUNG:
    case VmEnd::TIMEOUT:
      return absl::StrCat("the guest hung after DONE", Detail(end), VcpuText(end),
                          BlockedText(end));
    case VmEnd::ENGINE_FAILED:
      return absl::StrCat("the engine failed after DONE", Detail(end));
    default:  // Findings of their own, or not known.
      return "";
  }
}

void AddVmEndFindings(const Facts& facts, std::vector<Candidate>* out) {
  for (const Seen<v1::GuestOverrun>& overrun : facts.overruns) {
    Candidate candidate = MakeCause(FindingKind::kGuestTimeout,
                                    absl::StrCat("the run took more than its limit of ",
                                                 overrun->limit_ms(), " ms of guest time"),
                                    overrun.order);
    candidate.may_follow = true;
    candidate.finding.set_threshold(absl::StrCat(overrun->limit_ms(), "ms"));
    out->push_back(std::move(candidate));
  }
  if (facts.vm_end) EndJudge(facts, out).Judge();
}

}  // namespace ktstr::scenario
