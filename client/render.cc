// SPDX-License-Identifier: Apache-2.0
#include "client/render.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/head_tail.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "scenario/finding_kinds.h"

namespace ktstr::client {
namespace {

// Of a long log: some of the beginning, and more of the end.
constexpr size_t kShownFirstLines = 40;
constexpr size_t kShownLastLines = 160;
constexpr size_t kShownConsoleLines = 20;
constexpr size_t kLongestCycle = 32;

std::string Seconds(uint32_t ms) { return absl::StrFormat("%.1f", ms / 1000.0); }

std::string Mark(v1::Verdict verdict, bool color) {
  const char* mark = "✗";
  const char* code = "31";
  switch (verdict) {
    case v1::PASS:
      mark = "✓";
      code = "32";
      break;
    case v1::SKIP:
      mark = "-";
      code = "33";
      break;
    case v1::INCONCLUSIVE:
      mark = "?";
      code = "33";
      break;
    default:
      break;
  }
  return color ? absl::StrCat("\x1b[", code, "m", mark, "\x1b[0m") : mark;
}

std::string FindingText(const v1::Finding& finding) {
  std::string message = base::OneLine(finding.message());
  if (!finding.speeds().empty()) {
    absl::StrAppend(&message, " (", base::OneLine(finding.speeds()), ")");
  }
  const std::string where = base::OneLine(finding.where());
  // "cgroup left: stuck …", but not "scheduler: scheduler process died …".
  return where.empty() || absl::StrContains(message, where) ? message
                                                            : absl::StrCat(where, ": ", message);
}

std::string Findings(const v1::RunRecord& record) {
  size_t width = 0;
  for (const v1::Finding& finding : record.findings())
    width = std::max(width, finding.kind().size());
  std::string out;
  for (const v1::Finding& finding : record.findings()) {
    absl::StrAppend(&out, finding.consequence() ? "      " : "    ",
                    absl::StrFormat("%-*s", width, finding.kind()), "   ", FindingText(finding),
                    "\n");
  }
  return out;
}

// Shows what the verdict does not judge: a fault of the scheduler's end, when the scenario leaves
// it out, restarts, and what went wrong after the agent was done.
std::string Notes(const v1::RunRecord& record) {
  std::string notes;
  const std::string fault = base::OneLine(record.scheduler_end().fault());
  const bool judged = std::any_of(
      record.findings().begin(), record.findings().end(), [](const v1::Finding& finding) {
        return scenario::IsKind(finding, scenario::FindingKind::kSchedulerStop);
      });
  if (!judged && !fault.empty()) absl::StrAppend(&notes, "    note: the scheduler ", fault, "\n");
  if (record.has_scheduler_restarts()) {
    const v1::SchedulerRestarts& restarts = record.scheduler_restarts();
    absl::StrAppend(&notes, "    note: the scheduler restarted ", restarts.count(),
                    restarts.count() == 1 ? " time" : " times", ", for at most ",
                    restarts.longest_ms(), "ms",
                    restarts.unfinished() ? "; the last time it did not come back\n" : "\n");
  }
  const std::string after_done = base::OneLine(record.after_done());
  if (!after_done.empty()) absl::StrAppend(&notes, "    note: ", after_done, "\n");
  return notes;
}

std::string Indented(absl::string_view text) {
  std::string out;
  for (absl::string_view line : absl::StrSplit(absl::StripTrailingAsciiWhitespace(text), '\n')) {
    absl::StrAppend(&out, "    ", line, "\n");
  }
  return out;
}

// With `color`, in the colours of the scheduler.
std::string LogSection(const v1::RunRecord& record, bool color) {
  if (record.scheduler_log().empty()) return "";
  const std::string clean =
      color ? base::PrintableColored(record.scheduler_log())
            : base::PrintableTail(record.scheduler_log(), std::numeric_limits<size_t>::max());
  return absl::StrCat(
      "  --- scheduler log ---\n",
      Indented(base::CutMiddleLines(CollapseCycles(clean), kShownFirstLines, kShownLastLines)));
}

std::string DiagnosticsSection(const v1::RunRecord& record) {
  std::string body;
  if (!record.stage_reached().empty())
    absl::StrAppend(&body, "    stage reached: ", record.stage_reached(), "\n");
  const std::string console = base::PrintableTail(record.console_tail(), kShownConsoleLines);
  if (!absl::StripAsciiWhitespace(console).empty()) {
    absl::StrAppend(&body, "    console, last lines:\n", Indented(console));
  }
  return body.empty() ? "" : absl::StrCat("  --- diagnostics ---\n", body);
}

// True when the scheduler died or the guest ended early: log and console hold the reason.
bool NeedsSections(const v1::RunRecord& record) {
  if (record.verdict() == v1::ERROR) return true;
  for (const v1::Finding& finding : record.findings()) {
    const scenario::FindingKindInfo* info = scenario::InfoOf(finding);
    if (info != nullptr && info->show_logs) return true;
  }
  return false;
}

std::string Pointer(const v1::RunRecord& record) {
  if (record.run_id().empty()) return "";
  std::vector<absl::string_view> parts;
  if (!record.scheduler_log().empty()) parts.push_back("scheduler log");
  if (record.workers_size() > 0) parts.push_back("workers");
  if (!record.console_tail().empty()) parts.push_back("console");
  if (parts.empty()) parts.push_back("record");
  return absl::StrCat("  ", absl::StrJoin(parts, ", "), ": ktstrctl results show ", record.run_id(),
                      "\n");
}

// Without times where no run was made.
std::string ResultLine(const v1::RunRecord& record, bool color) {
  const v1::Timings& t = record.timings();
  const std::string scheduler =
      record.scheduler().name().empty() ? "eevdf" : record.scheduler().name();
  const std::string result =
      absl::StrCat(Mark(record.verdict(), color), " ", record.scenario(), " [", scheduler, "]  ",
                   record.variant().topology(), "  ", VerdictName(record.verdict()), "  ");
  if (!record.known_from().empty())
    return absl::StrCat(result, "known from ", record.known_from(), "\n");
  return absl::StrCat(result, Seconds(t.total_ms()), " s  (queue ", Seconds(t.queue_ms()),
                      t.start() == v1::Timings::RESTORE || t.start() == v1::Timings::ATTACHED
                          ? ", restore "
                          : ", boot ",
                      Seconds(t.start_ms()), ", attach ", Seconds(t.attach_ms()), ", scenario ",
                      Seconds(t.scenario_ms()), ", teardown ", Seconds(t.teardown_ms()), ")\n");
}

std::string Workers(const v1::RunRecord& record) {
  if (record.workers_size() == 0) return "";
  std::vector<std::vector<std::string>> rows = {{"CGROUP", "WORK", "ITERATIONS", "CPU MS",
                                                 "WALL MS", "OFF-CPU MS", "MIGRATIONS",
                                                 "MAX GAP MS", "CPUS"}};
  for (const v1::WorkerSummary& w : record.workers()) {
    rows.push_back({w.cgroup(), w.work_type(), absl::StrCat(w.iterations()),
                    absl::StrCat(w.cpu_time_ns() / 1000000),
                    absl::StrCat(w.wall_time_ns() / 1000000),
                    absl::StrCat(w.off_cpu_ns() / 1000000), absl::StrCat(w.migrations()),
                    absl::StrCat(w.max_gap_ms()), absl::StrJoin(w.cpus_used(), ",")});
  }
  return absl::StrCat("  --- workers ---\n", Indented(Table(rows)));
}

std::string Age(int64_t unix_s, absl::Time now) {
  const absl::Duration age = std::max(absl::ZeroDuration(), now - absl::FromUnixSeconds(unix_s));
  if (age < absl::Minutes(1)) return "now";
  if (age < absl::Hours(1)) return absl::StrCat(absl::ToInt64Minutes(age), "m");
  if (age < absl::Hours(48)) return absl::StrCat(absl::ToInt64Hours(age), "h");
  return absl::StrCat(absl::ToInt64Hours(age) / 24, "d");
}

// How many times the `length` lines at `at` come in a row.
size_t Repeats(const std::vector<absl::string_view>& lines, size_t at, size_t length) {
  size_t count = 1;
  while (at + (count + 1) * length <= lines.size() &&
         std::equal(lines.begin() + at, lines.begin() + at + length,
                    lines.begin() + at + count * length)) {
    ++count;
  }
  return count;
}

// What a sound kernel cannot do.
std::string Lacks(const v1::KernelEntry& entry) {
  std::vector<std::string> lacks;
  if (!entry.metadata().sched_ext()) lacks.push_back("(no sched_ext)");
  if (!entry.has_config()) lacks.push_back("(no config)");
  return absl::StrJoin(lacks, " ");
}

}  // namespace

std::string VerdictName(v1::Verdict verdict) {
  return verdict == v1::VERDICT_UNSPECIFIED ? "ERROR" : v1::Verdict_Name(verdict);
}

std::string HeaderLine(const v1::RunRecord& record) {
  const v1::Variant& variant = record.variant();
  if (variant.kernel().empty()) return "";
  // A record of an earlier version holds neither release nor source of the kernel.
  const std::string& release =
      variant.kernel_release().empty() ? record.kernel_version() : variant.kernel_release();
  const std::string source =
      variant.kernel_source().empty() ? "" : absl::StrCat(variant.kernel_source(), ", ");
  const v1::Timings::Start start = record.timings().start();
  const char* how = start == v1::Timings::ATTACHED  ? ", attached"
                    : start == v1::Timings::RESTORE ? ", warm"
                                                    : ", cold";
  return absl::StrCat("kernel ", release.empty() ? variant.kernel() : release, " (", source,
                      "cached)   topology ", variant.topology(), "   engine ", variant.engine(),
                      how, variant.engine() == "tcg" ? ", virtual time" : "", ", seed ",
                      variant.seed(), "\n");
}

std::string ResultText(const v1::RunRecord& record, bool color) {
  std::string out = absl::StrCat(ResultLine(record, color), Findings(record), Notes(record));
  if (record.verdict() == v1::PASS || record.verdict() == v1::SKIP) return out;
  if (NeedsSections(record))
    absl::StrAppend(&out, LogSection(record, color), DiagnosticsSection(record));
  absl::StrAppend(&out, Pointer(record));
  return out;
}

std::string ComparisonText(const v1::RunRecord& record, bool color) {
  std::string out = absl::StrCat(Mark(record.verdict(), color), " ", record.scenario(), "  ",
                                 VerdictName(record.verdict()));
  for (const v1::Finding& finding : record.findings())
    absl::StrAppend(&out, "  ", finding.kind(), "  ", base::OneLine(finding.message()));
  return absl::StrCat(out, "\n");
}

std::string SummaryLine(const VerdictCounts& counts, absl::Duration elapsed) {
  std::string out = absl::StrCat(counts.passed, " passed, ", counts.failed, " failed, ",
                                 counts.skipped, " skipped");
  if (counts.errors > 0)
    absl::StrAppend(&out, ", ", counts.errors, counts.errors == 1 ? " error" : " errors");
  if (counts.inconclusive > 0) absl::StrAppend(&out, ", ", counts.inconclusive, " inconclusive");
  return absl::StrCat(out, absl::StrFormat(" in %.1f s\n", absl::ToDoubleSeconds(elapsed)));
}

std::string RecordText(const v1::RunRecord& record, bool color) {
  std::string out =
      absl::StrCat("run ", record.run_id(), "   started ", record.start_time(), "   project ",
                   record.project_commit(), "   source ", record.run_source(), "\n",
                   HeaderLine(record), ResultLine(record, color), Findings(record), Notes(record));
  absl::StrAppend(&out, Workers(record), LogSection(record, color), DiagnosticsSection(record));
  if (!record.guest_digest().empty())
    absl::StrAppend(&out, "  guest digest: ", record.guest_digest(), "\n");
  if (!record.engine_version().empty())
    absl::StrAppend(&out, "  engine: ", record.engine_version(), "\n");
  if (!record.reproduce().empty())
    absl::StrAppend(&out, "  reproduce: ", base::OneLine(record.reproduce()), "\n");
  return out;
}

std::string CollapseCycles(absl::string_view text) {
  const std::vector<absl::string_view> lines = absl::StrSplit(absl::StripSuffix(text, "\n"), '\n');
  std::string out;
  for (size_t at = 0; at < lines.size();) {
    size_t length = 1, count = 1;
    for (size_t l = 1; l <= kLongestCycle && at + 2 * l <= lines.size(); ++l) {
      count = Repeats(lines, at, l);
      length = l;
      // A block that comes twice is easier to read as it is.
      if (count >= 3) break;
      count = 1;
    }
    if (count == 1) length = 1;
    for (size_t i = 0; i < length; ++i) absl::StrAppend(&out, lines[at + i], "\n");
    if (count > 1) {
      absl::StrAppend(
          &out, length == 1 ? "[the line above" : absl::StrCat("[the ", length, " lines above"),
          " came ", count, " times]\n");
    }
    at += length * count;
  }
  return out;
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      absl::StrAppend(&line, absl::StrFormat("%-*s", width[i] + 2, row[i]));
    absl::StrAppend(&out, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
  return out;
}

std::string RunsTable(const v1::ListRunsResponse& runs) {
  std::vector<std::vector<std::string>> rows = {
      {"RUN", "SCENARIO", "STATE", "VERDICT", "SUBMITTED (UTC)"}};
  for (const v1::RunSummary& run : runs.runs()) {
    rows.push_back(
        {run.run_id(), run.scenario(), run.state(),
         run.verdict() == v1::VERDICT_UNSPECIFIED ? "" : VerdictName(run.verdict()),
         absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMillis(run.submitted_unix_ms()),
                          absl::UTCTimeZone())});
  }
  return Table(rows);
}

std::string KernelsTable(const v1::ListKernelsResponse& kernels, absl::Time now) {
  std::vector<std::vector<std::string>> rows = {
      {"KEY", "VERSION", "SOURCE", "ARCH", "AGE", "SIZE", ""}};
  for (const v1::KernelEntry& entry : kernels.kernels()) {
    const v1::KernelMetadata& m = entry.metadata();
    if (!entry.error_kind().empty()) {
      rows.push_back(
          {m.key(), "", "", "", "", "", absl::StrCat("(corrupt: ", entry.error_kind(), ")")});
      continue;
    }
    rows.push_back({m.key(), m.version(), m.source(), m.arch(), Age(m.created_unix_s(), now),
                    Bytes(entry.size_bytes()), Lacks(entry)});
  }
  return Table(rows);
}

std::string SnapshotsTable(const v1::ListSnapshotsResponse& snapshots, absl::Time now) {
  std::vector<std::vector<std::string>> rows = {{"KEY", "MACHINE", "AGE", "USED", "SIZE", ""}};
  for (const v1::SnapshotEntry& entry : snapshots.snapshots()) {
    const bool sound = entry.error().empty();
    rows.push_back({entry.key().substr(0, 12), base::OneLine(entry.label()),
                    sound ? Age(entry.created_unix_s(), now) : "",
                    Age(entry.last_used_unix_s(), now), Bytes(entry.disk_bytes()),
                    sound ? "" : absl::StrCat("(unusable: ", base::OneLine(entry.error()), ")")});
  }
  return Table(rows);
}

std::string CorruptFooter(const v1::ListKernelsResponse& kernels, absl::string_view cache_dir) {
  std::string out;
  for (const v1::KernelEntry& entry : kernels.kernels()) {
    if (!entry.error_kind().empty())
      absl::StrAppend(&out, "  ", entry.metadata().key(), ": ", base::OneLine(entry.error()), "\n");
  }
  if (out.empty()) return "";
  return absl::StrCat("warning: entries marked (corrupt) cannot be used:\n", out,
                      "Inspect the entry directory under ", cache_dir,
                      "/kernels to remove it manually, then import or fetch the kernel again.\n");
}

std::string Bytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  if (bytes < (1u << 20)) return absl::StrFormat("%.1f KiB", bytes / 1024.0);
  if (bytes < (1u << 30)) return absl::StrFormat("%.1f MiB", bytes / 1048576.0);
  return absl::StrFormat("%.1f GiB", bytes / 1073741824.0);
}

std::string EventText(const v1::RunEvent& event) {
  if (event.has_progress()) {
    const v1::RunProgress& progress = event.progress();
    return base::OneLine(progress.text());
  }
  if (!event.has_phase()) return "";
  const std::string name = v1::RunPhase::Phase_Name(event.phase().phase());
  const std::string detail = base::OneLine(event.phase().detail());
  return absl::StrCat(absl::AsciiStrToLower(name), detail.empty() ? "" : ": ", detail);
}

std::string ConsoleText(absl::string_view run, absl::string_view text) {
  const std::string clean =
      base::PrintableTail(base::ToStd(text), std::numeric_limits<size_t>::max());
  if (clean.empty()) return "";
  std::string out;
  for (const absl::string_view line : absl::StrSplit(clean, '\n')) {
    absl::StrAppend(&out, run, run.empty() ? "" : "| ", line, "\n");
  }
  return out;
}

}  // namespace ktstr::client
