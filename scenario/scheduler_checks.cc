// SPDX-License-Identifier: Apache-2.0
//
// Findings about the scheduler's end: when it ended, how, and the reason that the kernel or libbpf
// gives.

#include <signal.h>

#include <algorithm>
#include <string>
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

namespace ktstr::scenario {
namespace {

using v1::SchedulerExit;

constexpr int kShellCode = 128;  // A shell's exit code for a program that a signal ended.

// What libbpf prints around the verifier's log.
constexpr char kLogBegin[] = "-- BEGIN PROG LOAD LOG --";
constexpr char kLogEnd[] = "-- END PROG LOAD LOG --";
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

// Last line of the scheduler's output that begins with `prefix`; empty when there is none.
std::string LastLine(const std::string& output, absl::string_view prefix) {
  std::string found;
  for (absl::string_view line : absl::StrSplit(output, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!line.empty() && absl::StartsWith(line, prefix)) found = std::string(line);
  }
  return OneLine(found);
}

// The kernel's reason: from the kernel log that the agent read, else from the exit record that the
// scheduler printed. The kernel writes
//   sched_ext: BPF scheduler "NAME" disabled (REASON)
//   sched_ext: NAME: MESSAGE
//      BACKTRACE
// with the second line only for some reasons. Any other second line is about something else, such
// as the start of another scheduler.
std::string KernelReason(const Facts& facts) {
  const std::vector<absl::string_view> lines = absl::StrSplit(facts.death->detail(), '\n');
  std::string reason(lines[0]);
  absl::string_view rest = lines[0];
  if (absl::ConsumePrefix(&rest, "sched_ext: BPF scheduler \"") && lines.size() > 1) {
    absl::string_view message = lines[1];
    const std::string prefix = absl::StrCat("sched_ext: ", rest.substr(0, rest.find('"')), ": ");
    if (absl::ConsumePrefix(&message, prefix)) absl::StrAppend(&reason, "; ", message);
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

struct Rejection {
  std::string program;
  std::string reason;
};

// Finds the first program that the verifier refused. The reason is the last line of the log before
// the statistics and before the explanation that kernels from 7.3 on add.
bool FindRejection(const std::string& output, Rejection* rejection) {
  const size_t begin = output.find(kLogBegin);
  if (begin == std::string::npos) return false;
  const size_t line_begin = output.rfind('\n', begin) + 1;  // npos + 1 is 0.
  const std::string line = output.substr(line_begin, begin - line_begin);
  if (const size_t quote = line.find("prog '"); quote != std::string::npos) {
    const size_t start = quote + 6;
    rejection->program = OneLine(line.substr(start, line.find('\'', start) - start));
  }
  const size_t log = begin + sizeof(kLogBegin) - 1;
  const std::string text = output.substr(log, output.find(kLogEnd, log) - log);
  for (absl::string_view raw : absl::StrSplit(text, '\n')) {
    const absl::string_view stripped = absl::StripAsciiWhitespace(raw);
    if (absl::StartsWith(stripped, "processed ") ||
        absl::StartsWith(stripped, "Verification failed:")) {
      break;
    }
    // The line with the end marker begins with libbpf's prefix.
    if (!stripped.empty() && !absl::StartsWith(stripped, "libbpf:")) {
      rejection->reason = OneLine(base::ToStd(stripped));
    }
  }
  return true;
}

std::string ProcessStatus(const SchedulerExit& exit) {
  base::ExitStatus status;
  status.code = exit.exit_code();
  status.signal = static_cast<int>(exit.signal());
  return status.ToString();
}

// A line of libbpf that names a cause, and not one that follows any failure or only informs.
bool IsLibbpfCause(absl::string_view line) {
  return absl::StartsWith(line, "libbpf: ") && !absl::StartsWith(line, "libbpf: failed to load ") &&
         !absl::StrContains(line, "skipping") && !absl::StrContains(line, "BPF skeleton");
}

bool IsErrorLine(absl::string_view line) {
  return absl::StartsWithIgnoreCase(line, "error:") ||
         absl::StrContains(line, ": unrecognized option") ||
         absl::StrContains(line, ": invalid option") ||
         absl::StrContains(line, ": option requires an argument");
}

// A line that a logger marks as no error, as "12:00:01 [INFO] text", "[TIME INFO  NAME] text" or
// "TIME  INFO NAME: text": the first word in capitals that is a level decides.
bool IsInformation(absl::string_view line) {
  constexpr size_t kLongestStamp = 48;
  line = line.substr(0, kLongestStamp);
  for (size_t at = 0; at < line.size(); ++at) {
    if (!absl::ascii_isalpha(line[at])) continue;
    size_t end = at;
    while (end < line.size() && absl::ascii_isalnum(line[end])) ++end;
    const absl::string_view word = line.substr(at, end - at);
    if (word == "INFO" || word == "DEBUG" || word == "TRACE") return true;
    // The date and the time of a stamp have letters too: 2026-11-28T22:10:03Z.
    const bool stamp = word.size() <= 1 || absl::ascii_isdigit(word[1]);
    if (!stamp) return false;
    at = end - 1;
  }
  return false;
}

// The chain of errors of Rust's anyhow from lines[at] on, as one line:
//   Error: MEANING
//
//   Caused by:
//       0: CAUSE            (the number stands only before one of several causes)
//       1: CAUSE OF THE CAUSE
// Without causes, lines[at] itself.
std::string ErrorChain(const std::vector<absl::string_view>& lines, size_t at) {
  std::string chain(lines[at]);
  size_t next = at + 1;
  while (next < lines.size() && lines[next].empty()) ++next;
  if (next == lines.size() || lines[next] != "Caused by:") return chain;
  for (++next; next < lines.size() && !lines[next].empty(); ++next) {
    absl::string_view cause = lines[next];
    const size_t digits = std::min(cause.find_first_not_of("0123456789"), cause.size());
    absl::string_view text = cause.substr(digits);
    if (digits > 0 && absl::ConsumePrefix(&text, ": ")) cause = text;
    absl::StrAppend(&chain, ": ", cause);
  }
  return chain;
}

// The line of the scheduler's output that best explains its end: the first cause of libbpf, else
// the first error with its causes, else the last line before a usage text, else the last line that
// a logger does not mark as information.
std::string QuoteOutput(const Facts& facts) {
  std::vector<absl::string_view> lines;
  for (const absl::string_view line : absl::StrSplit(facts.scheduler_output, '\n'))
    lines.push_back(absl::StripAsciiWhitespace(line));
  std::string libbpf, error, before_usage;
  absl::string_view last, last_of_all;
  for (size_t i = 0; i < lines.size(); ++i) {
    const absl::string_view line = lines[i];
    if (line.empty()) continue;
    last_of_all = line;
    if (IsInformation(line)) continue;
    if (libbpf.empty() && IsLibbpfCause(line)) libbpf = std::string(line);
    if (error.empty() && IsErrorLine(line)) error = ErrorChain(lines, i);
    if (before_usage.empty() && absl::StartsWithIgnoreCase(line, "usage:"))
      before_usage = std::string(last);
    last = line;
  }
  for (const std::string& text : {libbpf, error, before_usage}) {
    if (!text.empty()) return absl::StrCat("; its output: ", OneLine(text));
  }
  // Where a scheduler that did not get on stood is no cause, but the best there is.
  if (last.empty() && facts.death->cause() == SchedulerExit::ATTACH_TIMEOUT) last = last_of_all;
  return last.empty() ? "" : absl::StrCat("; its last output: ", OneLine(base::ToStd(last)));
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

void AddNotAttached(const v1::Scenario& scenario, const Facts& facts, std::vector<Candidate>* out) {
  const std::string name(base::Basename(scenario.scheduler().name()));
  Candidate candidate = MakeCandidate(FindingKind::kSchedulerNotAttached, facts);
  if (facts.death->cause() == SchedulerExit::EXEC_FAILED) {
    candidate.finding.set_message(absl::StrCat(
        "scheduler ", OneLine(name), " could not be executed: ", OneLine(facts.death->detail())));
  } else {
    const uint32_t set_ms = scenario.scheduler().attach_timeout_ms();
    const std::string limit = absl::StrCat(set_ms != 0 ? set_ms : kDefaultAttachTimeoutMs, "ms");
    const std::string detail = OneLine(facts.death->detail());
    const bool no_sched_ext = facts.guest_info && !facts.guest_info->has_sched_ext();
    candidate.finding.set_message(
        absl::StrCat("the kernel did not report scheduler ", OneLine(name), " enabled within ",
                     limit, no_sched_ext ? ": the guest's kernel has no sched_ext" : "",
                     detail.empty() ? "" : ": ", detail, QuoteOutput(facts)));
    candidate.finding.set_threshold(limit);
  }
  out->push_back(std::move(candidate));
}

void AddDeath(const Facts& facts, std::vector<Candidate>* out) {
  const SchedulerExit& exit = *facts.death.fact;
  Candidate candidate = MakeCandidate(FindingKind::kSchedulerDied, facts);
  candidate.may_follow = true;  // From VERIFIER_REJECTED.
  const std::string kernel = KernelReason(facts);
  const std::string reason = kernel.empty() ? "" : absl::StrCat(kernel, Hotplug(facts, kernel));
  if (exit.cause() == SchedulerExit::EJECTED) {
    candidate.finding.set_message(absl::StrCat("scheduler was ejected by the kernel ", When(facts),
                                               reason.empty() ? "" : ": ", reason));
    candidate.finding.set_observed(kernel);
  } else {
    const std::string status = ProcessStatus(exit);
    candidate.finding.set_message(
        absl::StrCat("scheduler process died unexpectedly ", When(facts), ": ", status,
                     reason.empty() ? "" : "; kernel: ", reason,
                     !exit.was_enabled() && reason.empty() ? QuoteOutput(facts) : ""));
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
  out->push_back(std::move(candidate));
}

// Adds why a scheduler did not load, when its own output does not name the cause.
void AddMissingConfig(const Facts& facts, v1::Finding* finding) {
  if (facts.enabled || !absl::StrContains(facts.scheduler_output, kNoConfig)) return;
  absl::StrAppend(finding->mutable_message(),
                  "; the guest has no kernel configuration, which the scheduler needs: the kernel "
                  "was cached without it (`ktstrctl kernel list`). Import it again with --config "
                  "FILE");
}

}  // namespace

std::string StopFault(const SchedulerExit& stop) {
  if (stop.cause() != SchedulerExit::STOPPED) return "";
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
  Rejection rejection;
  const bool rejected = !facts.enabled && FindRejection(facts.scheduler_output, &rejection);
  if (rejected) AddRejection(rejection, facts, candidates);
  const SchedulerExit::Cause cause = facts.death->cause();
  if (cause == SchedulerExit::ATTACH_TIMEOUT || cause == SchedulerExit::EXEC_FAILED) {
    AddNotAttached(scenario, facts, candidates);
    candidates->back().may_follow = rejected;
  } else {
    AddDeath(facts, candidates);
  }
  AddMissingConfig(facts, &candidates->back().finding);
}

}  // namespace ktstr::scenario
