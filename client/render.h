// SPDX-License-Identifier: Apache-2.0
//
// Records as text for people, in the form that docs/ and scripts rely on. Pure functions; they make
// guest bytes of a record (logs, console) safe for a terminal. Any thread.

#ifndef KTSTR_CLIENT_RENDER_H_
#define KTSTR_CLIENT_RENDER_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/exit_codes.h"
#include "ktstr/v1/kernel.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::client {

// "kernel 7.3.4-cloud (deb, cached)   topology 1n2l2c1t   engine tcg, cold, virtual time, seed 1".
// Empty when the run got no kernel.
std::string HeaderLine(const v1::RunRecord& record);

// The mark, the verdict and the timings; then the findings, the sections of a dead scheduler and
// where to read on.
std::string ResultText(const v1::RunRecord& record, bool color);

// A record that compares runs with one another, in one line.
std::string ComparisonText(const v1::RunRecord& record, bool color);

// "1 passed, 0 failed, 0 skipped in 5.1 s", with errors and inconclusive runs when there are some.
std::string SummaryLine(const VerdictCounts& counts, absl::Duration elapsed);

// Everything of a record, for `results show`.
std::string RecordText(const v1::RunRecord& record, bool color);

// Shows a block of lines that comes three times or more in a row once, followed by the number of
// times.
std::string CollapseCycles(absl::string_view text);

// Aligned columns, two spaces between them; the first row is the heading.
std::string Table(const std::vector<std::vector<std::string>>& rows);

std::string RunsTable(const v1::ListRunsResponse& runs);
std::string SnapshotsTable(const v1::ListSnapshotsResponse& snapshots, absl::Time now);
std::string KernelsTable(const v1::ListKernelsResponse& kernels, absl::Time now);
// What to do about corrupt entries; empty when there are none.
std::string CorruptFooter(const v1::ListKernelsResponse& kernels, absl::string_view cache_dir);

// "PASS", "FAIL", …
std::string VerdictName(v1::Verdict verdict);
// "12.3 MiB"
std::string Bytes(uint64_t bytes);
// An event of a run in one line for people; empty when there is nothing to show.
std::string EventText(const v1::RunEvent& event);
// Text of a guest's console, safe for a terminal, each line after "RUN| " unless `run` is empty.
std::string ConsoleText(absl::string_view run, absl::string_view text);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_RENDER_H_
