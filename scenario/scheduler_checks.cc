// SPDX-License-Identifier: Apache-2.0
//
// Findings about the scheduler's end: when it ended, how, and the reason that the kernel or libbpf
// gives.

#include <signal.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/file.h"
#include "base/string_view.h"
#include "base/subprocess.h"
#include "scenario/checks.h"
#include "scenario/facts.h"
#include "scenario/plan.h"
#include "scenario/scheduler_output.h"

namespace ktstr::scenario {
namespace {

using v1::SchedulerExit;

constexpr int kShellCode = 128;  // A shell's exit code for a program that a signal ended.

// What libbpf prints when it finds neither /boot/config-RELEASE nor /proc/config.gz.
constexpr char kNoConfig[] = "libbpf: failed to open system Kconfig";

// "while attaching", "after completing step 2 of 5 (12.3s into test)", ...
std::string When(const Facts& facts) {
  const SchedulerExit& exit = *facts.death.fact;
  if (!exit.was_enabled()) return "while attaching";
  const std::string time =
      absl::StrFormat(" (%.1fs into test)", static_cast<double>(exit.scenario_time_ns()) / 1e9);
  const uint32_t completed = exit.steps_completed();
  const uint32_t total = exit.steps_total();
  if (!exit.during_steps()) {
    if (completed == 0) return "after attaching, before the first step";
    return absl::StrCat("after completing all ", total, total == 1 ? " step" : " steps", time);
  }
  if (completed == 0) return absl::StrCat("during the workload, in step 1 of ", total, time);
  std::string text = absl::StrCat("after completing step ", completed, " of ", total, time);
  if (facts.in_step) absl::StrAppend(&text, ", during the workload of step ", completed + 1);
  return text;
}

// The kernel's reason: from the kernel log that the agent read, else from the exit record that the
// scheduler printed. The kernel writes
//   sched_ext: BPF scheduler "NAME" disabled (REASON)
//   sched_ext: NAME: MESSAGE
//      BACKTRACE
// with the second line only for errors; ExitMessage() has it for the other reasons. Any other
// second line is about something else, such as the start of another scheduler.
std::string KernelReason(const Facts& facts) {
  const std::vector<absl::string_view> lines = absl::StrSplit(facts.death->detail(), '\n');
  std::string reason(lines[0]);
  absl::string_view rest = lines[0];
  if (absl::ConsumePrefix(&rest, "sched_ext: BPF scheduler \"") && lines.size() > 1) {
    absl::string_view message = lines[1];
    const std::string prefix = absl::StrCat("sched_ext: ", rest.substr(0, rest.find('"')), ": ");
    if (absl::ConsumePrefix(&message, prefix)) {
      absl::StrAppend(&reason, "; ", message);
      return OneLine(reason);
    }
  }
  // What stands between "disabled (" and the last parenthesis.
  constexpr std::string_view kDisabled = "\" disabled (";
  if (const size_t at = reason.find(kDisabled); at != std::string::npos) {
    absl::string_view kind = absl::string_view(reason).substr(at + kDisabled.size());
    if (absl::ConsumeSuffix(&kind, ")")) {
      const std::string message = ExitMessage(facts.scheduler_output, kind);
      if (!message.empty()) absl::StrAppend(&reason, "; ", message);
    }
  }
  const std::string detail = OneLine(reason);
  return detail.empty() ? LastLine(facts.scheduler_output, "EXIT:") : detail;
}

// The kernel ends a scheduler without ops.cpu_online and ops.cpu_offline when a CPU goes offline.
// Adds that the harness took it offline; "" when it did not.
std::string Hotplug(const Facts& facts, absl::string_view reason) {
  // As kernel/sched/ext.c writes SCX_EXIT_UNREG_KERN, and the message of handle_hotplug().
  if (!absl::StrContains(reason, "unregistered from the main kernel") &&
      !absl::StrContains(reason, "exiting scheduler")) {
    return "";
  }
  const uint64_t died_ns = facts.death->scenario_time_ns();
  const v1::Perturbation* last = nullptr;
  for (const v1::Perturbation* one : facts.disturbances) {
    if (one->kind() == v1::Perturbation::HOTPLUG && one->begin_ns() <= died_ns &&
        (last == nullptr || one->begin_ns() > last->begin_ns())) {
      last = one;
    }
  }
  if (last == nullptr) return "";
  return absl::StrCat("; the harness took CPU ", last->cpu(), " offline at +",
                      last->begin_ns() / 1'000'000,
                      "ms (perturb.hotplug): the scheduler has no ops.cpu_online and "
                      "ops.cpu_offline");
}

std::string ProcessStatus(const SchedulerExit& exit) {
  base::ExitStatus status;
  status.code = exit.exit_code();
  status.signal = static_cast<int>(exit.signal());
  return status.ToString();
}

Candidate MakeCandidate(FindingKind kind, const Facts& facts) {
  Candidate candidate(kind, "scheduler", facts.death.order);
  candidate.finding.set_guest_time_ms(facts.death->scenario_time_ns() / 1'000'000);
  candidate.is_cause = true;
  return candidate;
}

void AddRejection(const Rejection& rejection, const Facts& facts, std::vector<Candidate>* out) {
  Candidate candidate = MakeCandidate(FindingKind::kVerifierRejected, facts);
  candidate.finding.set_message(absl::StrCat(
      "the kernel's verifier rejected program ",
      rejection.program.empty() ? "(unnamed)" : absl::StrCat("'", rejection.program, "'"),
      rejection.reason.empty() ? "" : absl::StrCat(": ", rejection.reason)));
  out->push_back(std::move(candidate));
}

// A scheduler that ended by itself because it did not load for want of memory, while the kernel
// killed nobody for it.
bool AddNoMemory(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  if (facts.enabled || !facts.out_of_memory.empty() || !facts.topology) return false;
  const SchedulerExit& exit = *facts.death.fact;
  if (exit.cause() != SchedulerExit::PROCESS_EXITED || exit.signal() != 0 || !exit.detail().empty())
    return false;
  const std::string line = NoMemoryLine(facts.scheduler_output);
  if (line.empty()) return false;
  Candidate candidate = MakeCandidate(FindingKind::kOutOfMemory, facts);
  const std::string mebibytes = absl::StrCat(MemoryMb(scenario, *facts.topology), " MiB");
  candidate.finding.set_message(
      absl::StrCat("the kernel had no memory for what the scheduler loads: ", line,
                   "; the guest has ", mebibytes, ". memory_mb (`--memory-mb`) gives it more"));
  candidate.finding.set_observed("ENOMEM while attaching");
  out->push_back(std::move(candidate));
  return true;
}

void AddNotAttached(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  const std::string name(base::Basename(scenario.scheduler().name()));
  Candidate candidate = MakeCandidate(FindingKind::kSchedulerNotAttached, facts);
  if (facts.death->cause() == SchedulerExit::EXEC_FAILED) {
    candidate.finding.set_message(absl::StrCat(
        "scheduler ", OneLine(name), " could not be executed: ", OneLine(facts.death->detail())));
  } else {
    const uint64_t still_ms = facts.death->still_ns() / 1'000'000;
    const std::string limit =
        absl::StrCat(still_ms != 0 ? kStillTimeoutMs : AttachTimeoutMs(scenario), "ms");
    const std::string detail = OneLine(facts.death->detail());
    const bool no_sched_ext = facts.guest_info && !facts.guest_info->has_sched_ext();
    candidate.finding.set_message(absl::StrCat(
        "the kernel did not report scheduler ", OneLine(name), " enabled",
        still_ms != 0 ? absl::StrCat(": its process stood still for ", still_ms, "ms")
                      : absl::StrCat(" within ", limit),
        facts.death->has_attach() ? ", after " : "",
        facts.death->has_attach() ? AttachText(facts.death->attach()) : "",
        no_sched_ext ? ": the guest's kernel has no sched_ext" : "", detail.empty() ? "" : ": ",
        detail, QuoteOutput(facts.scheduler_output, /*even_information=*/true)));
    candidate.finding.set_threshold(limit);
  }
  out->push_back(std::move(candidate));
}

// "; its process then ended (exited with 101): thread 'main' panicked at ..." of one that tried to
// restart and could not; "" of one that the harness ended, or that names no error.
std::string RestartFault(const SchedulerExit& exit, const std::string& output) {
  if (!absl::StrContains(exit.detail(), "unregistered from ")) return "";
  const bool ended_by_us = exit.killed() || exit.signal() == SIGINT || exit.signal() == SIGKILL ||
                           exit.exit_code() == kShellCode + SIGINT;
  const bool failed = exit.exit_code() != 0 || exit.signal() != 0;
  if (ended_by_us || !failed || exit.restart_timeout_ms() != 0) return "";
  const std::string error = ErrorAfterExit(output);
  return error.empty()
             ? ""
             : absl::StrCat("; its process then ended (", ProcessStatus(exit), "): ", error);
}

void AddDeath(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  const SchedulerExit& exit = *facts.death.fact;
  Candidate candidate = MakeCandidate(FindingKind::kSchedulerDied, facts);
  candidate.may_follow = true;  // From VERIFIER_REJECTED or OUT_OF_MEMORY.
  const std::string kernel = KernelReason(facts);
  const std::string reason = kernel.empty() ? "" : absl::StrCat(kernel, Hotplug(facts, kernel));
  if (exit.cause() == SchedulerExit::EJECTED) {
    candidate.finding.set_message(absl::StrCat(
        "scheduler was ejected by the kernel ", When(facts), reason.empty() ? "" : ": ", reason,
        exit.restart_timeout_ms() == 0
            ? ""
            : absl::StrCat("; it did not restart within ", exit.restart_timeout_ms(), "ms",
                           exit.restart_timeout_ms() == RestartTimeoutMs(scenario)
                               ? " (scheduler.restart_timeout_ms)"
                               : ""),
        RestartFault(exit, facts.scheduler_output)));
    candidate.finding.set_observed(kernel);
  } else {
    const std::string status = ProcessStatus(exit);
    candidate.finding.set_message(
        absl::StrCat("scheduler process died unexpectedly ", When(facts), ": ", status,
                     reason.empty() ? "" : "; kernel: ", reason,
                     !exit.was_enabled() && reason.empty()
                         ? QuoteOutput(facts.scheduler_output, /*even_information=*/false)
                         : ""));
    candidate.finding.set_observed(status);
  }
  out->push_back(std::move(candidate));
}

void AddStop(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  const std::string fault = StopFault(*facts.stop.fact);
  if (fault.empty() || !IsOn(scenario.checks(), v1::Checks::kSchedulerStopFieldNumber)) return;
  const std::string last = LastLine(facts.scheduler_output, "");
  Candidate candidate(FindingKind::kSchedulerStop, "scheduler", facts.stop.order);
  candidate.finding.set_message(
      absl::StrCat("the scheduler ", fault, last.empty() ? "" : "; its last output: ", last));
  candidate.finding.set_observed(ProcessStatus(*facts.stop.fact));
  candidate.finding.set_guest_time_ms(facts.stop->scenario_time_ns() / 1'000'000);
  candidate.may_follow = true;
  // The stop's time is its beginning; a process that was killed after it ended by that.
  for (const Seen<v1::OutOfMemory>& kill : facts.out_of_memory) {
    if (kill->scheduler()) candidate.order = std::max(candidate.order, kill.order);
  }
  out->push_back(std::move(candidate));
}

// Adds why a scheduler did not load, when its own output does not name the cause: a load that needs
// an option of the kernel ends with EINVAL.
void AddMissingConfig(const Facts& facts, v1::Finding* finding) {
  if (facts.enabled) return;
  const auto& names = facts.death->missing_config();
  // libbpf refuses an object for its options before the verifier sees it.
  const bool by_name = !names.empty() && facts.death->detail().empty() &&
                       !FindRejection(facts.scheduler_output) &&
                       HasInvalidArgument(facts.scheduler_output);
  if (!by_name && !absl::StrContains(facts.scheduler_output, kNoConfig)) return;
  std::string list;
  for (const std::string& name : names) {
    absl::StrAppend(&list, list.empty() ? " (" : ", ", OneLine(name));
  }
  if (!list.empty()) list += ")";
  absl::StrAppend(finding->mutable_message(),
                  "; this kernel came without its configuration file, and the scheduler reads it",
                  list, ": import the kernel again with --config FILE (`ktstrctl kernel list`)");
}

}  // namespace

std::string StopFault(const SchedulerExit& stop) {
  if (stop.cause() != SchedulerExit::STOPPED) return "";
  if (stop.in_restart())
    return stop.still_running() ? "was restarting, and SIGKILL did not end it" : "";
  if (stop.killed()) {
    return absl::StrCat("did not end within ", kStopTimeoutMs, "ms of SIGINT and had to be killed",
                        stop.still_running() ? "; SIGKILL did not end it either" : "");
  }
  const bool by_our_signal = stop.signal() == SIGINT || stop.exit_code() == kShellCode + SIGINT;
  if (by_our_signal || (stop.signal() == 0 && stop.exit_code() == 0)) return "";
  return absl::StrCat(ProcessStatus(stop), " when it was told to stop");
}

void AddSchedulerFindings(const v1::Scenario& scenario, const Facts& facts,
                          std::vector<Candidate>* candidates) {
  if (!scenario.has_scheduler()) return;
  if (facts.stop) AddStop(scenario, facts, candidates);
  if (!facts.death) return;
  std::optional<Rejection> rejection;
  if (!facts.enabled) rejection = FindRejection(facts.scheduler_output);
  const bool rejected = rejection.has_value();
  if (rejected) AddRejection(*rejection, facts, candidates);
  const bool no_memory = !rejected && AddNoMemory(scenario, facts, candidates);
  const SchedulerExit::Cause cause = facts.death->cause();
  if (cause == SchedulerExit::ATTACH_TIMEOUT || cause == SchedulerExit::EXEC_FAILED) {
    AddNotAttached(scenario, facts, candidates);
    candidates->back().may_follow = rejected || no_memory || !facts.out_of_memory.empty();
  } else {
    AddDeath(scenario, facts, candidates);
  }
  AddMissingConfig(facts, &candidates->back().finding);
}

}  // namespace ktstr::scenario
