// SPDX-License-Identifier: Apache-2.0
#include "client/run_reporter.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/file.h"
#include "client/output_file.h"
#include "client/render.h"
#include "scenario/json.h"

namespace ktstr::client {
RunReporter::RunReporter(Terminal* terminal, ReportOptions options, size_t runs)
    : terminal_(terminal),
      options_(std::move(options)),
      runs_(runs),
      start_(base::RealClock()->Monotonic()),
      record_directory_(options_.sidecar_directory) {
  if (options_.ktap) terminal_->Machine(KtapHead(runs));
}

void RunReporter::Submitted(size_t, const std::string& run_id) {
  base::MutexLock lock(&mutex_);
  active_[run_id] = "submitted";
  latest_ = run_id;
  if (!terminal_->live() || options_.verbose) terminal_->Note(absl::StrCat(run_id, " submitted"));
}

void RunReporter::Event(const std::string& run_id, const v1::RunEvent& event) {
  if (event.has_console()) {
    terminal_->Console(ConsoleText(runs_ > 1 ? run_id : "", event.console().text()));
    return;
  }
  const std::string text = EventText(event);
  if (text.empty()) return;
  base::MutexLock lock(&mutex_);
  active_[run_id] = text;
  latest_ = run_id;
  if (!terminal_->live() || options_.verbose) terminal_->Note(absl::StrCat(run_id, " ", text));
}

void RunReporter::Finished(const v1::RunRecord& record) {
  base::MutexLock lock(&mutex_);
  active_.erase(record.run_id());
  counts_.Add(record);
  records_.push_back(record);
  // Prints the header once for runs in a row that share it.
  if (const std::string header = HeaderLine(record); !header.empty() && header != header_) {
    terminal_->Result(header);
    header_ = header;
  }
  terminal_->Result(ResultText(record, terminal_->color()));
  WriteOutputs(record);
}

void RunReporter::Known(size_t, const v1::RunRecord& record) { Finished(record); }

void RunReporter::PrintJson(const v1::RunRecord& record) {
  if (!options_.json) return;
  const absl::StatusOr<std::string> json = scenario::ToJson(record, /*pretty=*/false);
  if (json.ok()) {
    terminal_->Machine(absl::StrCat(*json, "\n"));
  } else {
    Problem(json.status());
  }
}

std::vector<v1::RunRecord> RunReporter::records() const {
  base::MutexLock lock(&mutex_);
  return records_;
}

void RunReporter::Compared(const v1::RunRecord& record) {
  base::MutexLock lock(&mutex_);
  counts_.Add(record);
  records_.push_back(record);
  terminal_->Result(ComparisonText(record, terminal_->color()));
  // A diagnostic line: the KTAP plan counts runs only.
  if (options_.ktap) terminal_->Machine(absl::StrCat("# ", ComparisonText(record, false)));
  PrintJson(record);
}

void RunReporter::WriteOutputs(const v1::RunRecord& record) {
  if (options_.ktap) terminal_->Machine(KtapLine(records_.size(), record));
  PrintJson(record);
  if (!options_.sidecar_directory.empty() && !record.run_id().empty()) {
    Problem(OutputError(record_directory_.Write(record)));
  }
}

void RunReporter::Problem(const absl::Status& status) {
  if (status.ok()) return;
  if (first_problem_.ok()) first_problem_ = status;
  if (said_.insert(std::string(status.message())).second) {
    terminal_->Error(absl::StrCat("ktstrctl: ", status.message()));
  }
}

void RunReporter::Failed(const std::string& run_id, const absl::Status& status) {
  base::MutexLock lock(&mutex_);
  active_.erase(run_id);
  Problem(status);
}

void RunReporter::Reconnecting(const absl::Status& why) {
  base::MutexLock lock(&mutex_);
  for (auto& [run_id, doing] : active_) doing = "connecting to the daemon again";
  terminal_->Note(absl::StrCat("connection lost (", why.message(), "), connecting again"));
}

void RunReporter::Tick() {
  if (!terminal_->live()) return;
  base::MutexLock lock(&mutex_);
  if (active_.empty()) return;
  auto shown = active_.find(latest_);
  if (shown == active_.end()) shown = active_.begin();
  const double seconds = absl::ToDoubleSeconds(base::RealClock()->Monotonic() - start_);
  const std::string progress =
      runs_ > 1 ? absl::StrCat("[", records_.size(), "/", runs_, "] ") : "";
  terminal_->Live(absl::StrCat(progress, shown->first, " ", shown->second,
                               absl::StrFormat("  %.1f s", seconds)));
}

ExitCode RunReporter::Finish() {
  base::MutexLock lock(&mutex_);
  // Without any run, the printed problem is the whole result.
  if (!records_.empty() || first_problem_.ok()) {
    terminal_->Result(SummaryLine(counts_, base::RealClock()->Monotonic() - start_));
  }
  if (!options_.junit_file.empty()) {
    Problem(WriteOutputFile(options_.junit_file, JunitXml(records_)));
  }
  const ExitCode verdicts = ExitCodeOf(counts_, options_.policy);
  if (verdicts == kFail) return kFail;
  return first_problem_.ok() ? verdicts : ExitCodeOf(first_problem_);
}

}  // namespace ktstr::client
