// SPDX-License-Identifier: Apache-2.0
#include "guest/probe.h"

#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "guest/program.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

// A probe prints a line or two; a longer last line is cut here.
constexpr size_t kMaxLine = 1024;
// After SIGKILL only a process stuck in the kernel stays.
constexpr uint64_t kGraceAfterKill = 5 * kNsPerSecond;

std::string NameOf(const v1::GuestProbe& plan) { return std::string(base::Basename(plan.path())); }

}  // namespace

absl::StatusOr<std::unique_ptr<Probe>> Probe::Start(const v1::GuestProbe& plan,
                                                    const std::string& bundle, Reaper* reaper,
                                                    Reporter* reporter) {
  std::unique_ptr<Probe> probe(new Probe(plan, reaper, reporter));
  KTSTR_ASSIGN_OR_RETURN(StartedProgram started,
                         StartProgram({.path = base::JoinPath(bundle, plan.path()),
                                       .lib_dir = base::JoinPath(bundle, "lib"),
                                       .name = NameOf(plan),
                                       .args = {plan.args().begin(), plan.args().end()}}));
  if (started.exec_errno != 0) {
    return absl::InternalError(
        absl::StrCat("cannot execute ", plan.path(), ": ", strerror(started.exec_errno)));
  }
  reaper->Watch(started.pid);
  probe->pid_ = started.pid;
  probe->output_ = std::move(started.output);
  probe->deadline_ns_ = MonotonicNs() + plan.start_timeout_ms() * kNsPerMs;
  return probe;
}

bool Probe::DrainOutput() {
  char buffer[4096];
  bool line = false;
  for (ssize_t got; (got = read(output_.get(), buffer, sizeof(buffer))) > 0;) {
    v1::Observation observation;
    observation.mutable_scheduler_output()->set_data(buffer, static_cast<size_t>(got));
    reporter_->Report(std::move(observation));
    for (ssize_t i = 0; i < got; ++i) {
      if (line_ended_) last_line_.clear();
      line_ended_ = buffer[i] == '\n';
      line |= line_ended_;
      if (!line_ended_ && last_line_.size() < kMaxLine) last_line_ += buffer[i];
    }
  }
  return line;
}

void Probe::Poll() {
  if (phase_ == Phase::kEnded) return;
  reaper_->Reap();
  const std::optional<ChildEnd> end = reaper_->Take(pid_);
  const bool line = DrainOutput();
  if (end.has_value()) {
    End(*end);
    return;
  }
  if (phase_ == Phase::kStarting && line && !killed_) phase_ = Phase::kInPlace;
  if (phase_ == Phase::kInPlace || MonotonicNs() < deadline_ns_) return;
  if (killed_) {
    status_ = absl::InternalError(absl::StrCat(status_.message(), ", nor within ",
                                               kGraceAfterKill / kNsPerMs, " ms of SIGKILL"));
    phase_ = Phase::kEnded;
    return;
  }
  Kill(phase_ == Phase::kStarting
           ? absl::StrCat("was not in place after ", plan_.start_timeout_ms(), " ms")
           : absl::StrCat("did not end within ", plan_.stop_timeout_ms(), " ms of SIGINT"));
}

void Probe::Stop() {
  if (phase_ == Phase::kEnded || phase_ == Phase::kStopping) return;
  phase_ = Phase::kStopping;
  deadline_ns_ = MonotonicNs() + plan_.stop_timeout_ms() * kNsPerMs;
  reaper_->Signal(pid_, SIGINT);
}

void Probe::Kill(std::string_view why) {
  status_ = absl::InternalError(absl::StrCat("probe ", NameOf(plan_), " ", base::ToAbsl(why)));
  killed_ = true;
  deadline_ns_ = MonotonicNs() + kGraceAfterKill;
  reaper_->Signal(pid_, SIGKILL, /*group=*/true);
}

void Probe::End(const ChildEnd& end) {
  const bool asked = phase_ == Phase::kStopping;
  phase_ = Phase::kEnded;
  if (!status_.ok() || (asked && end.signal == 0 && end.code == 0)) return;
  refused_ = !asked && end.signal == 0 && end.code == EX_DATAERR;
  if (refused_) {
    status_ = absl::InvalidArgumentError(last_line_);
    return;
  }
  status_ = absl::InternalError(absl::StrCat(
      "probe ", NameOf(plan_), " ended ",
      end.signal != 0 ? absl::StrCat("by signal ", end.signal)
                      : absl::StrCat("with code ", end.code),
      asked ? "" : " before it was told to", last_line_.empty() ? "" : ": ", last_line_));
}

}  // namespace ktstr::guest
