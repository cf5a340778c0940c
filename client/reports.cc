// SPDX-License-Identifier: Apache-2.0
#include "client/reports.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "client/render.h"
#include "scenario/json.h"
#include "scenario/record.h"

namespace ktstr::client {
namespace {

// XML 1.0 knows no control characters besides tab and newline, not even as references
// (section 2.2); PrintableTail removes them. U+FFFE and U+FFFF are no characters there either.
std::string Xml(absl::string_view text) {
  return absl::StrReplaceAll(
      base::PrintableTail(base::ToStd(text), std::numeric_limits<size_t>::max()),
      {{"&", "&amp;"},
       {"<", "&lt;"},
       {">", "&gt;"},
       {"\"", "&quot;"},
       {"\xef\xbf\xbe", "\xef\xbf\xbd"},
       {"\xef\xbf\xbf", "\xef\xbf\xbd"}});
}

// In an attribute a newline must be a reference: XML turns a plain one into a space.
std::string XmlAttribute(absl::string_view text) {
  return absl::StrReplaceAll(Xml(text), {{"\n", "&#10;"}, {"\t", "&#9;"}});
}

std::string CaseName(const v1::RunRecord& record) {
  const v1::Variant& v = record.variant();
  const std::string scheduler =
      record.scheduler().name().empty() ? "eevdf" : record.scheduler().name();
  return absl::StrCat(record.scenario(), "[", scheduler, ",", v.topology(), ",", v.kernel(),
                      ",seed=", v.seed(), "]");
}

std::string FindingsText(const v1::RunRecord& record) {
  return absl::StrJoin(record.findings(), "\n", [](std::string* out, const v1::Finding& finding) {
    absl::StrAppend(out, finding.kind(), ": ", finding.where(), finding.where().empty() ? "" : ": ",
                    finding.message());
  });
}

std::string JunitOutcome(const v1::RunRecord& record) {
  const std::string kind =
      record.findings_size() > 0 ? record.findings(0).kind() : VerdictName(record.verdict());
  const std::string message = record.findings_size() > 0 ? record.findings(0).message() : "";
  const auto element = [&](absl::string_view name) {
    return absl::StrCat("      <", name, " type=\"", XmlAttribute(kind), "\" message=\"",
                        XmlAttribute(message), "\">", Xml(FindingsText(record)), "</", name, ">\n");
  };
  switch (record.verdict()) {
    case v1::PASS:
      return "";
    case v1::FAIL:
      return element("failure");
    case v1::SKIP:
    case v1::INCONCLUSIVE:
      return absl::StrCat("      <skipped message=\"",
                          XmlAttribute(absl::StrCat(VerdictName(record.verdict()), ": ", message)),
                          "\"/>\n");
    default:
      return element("error");
  }
}

// A name or a line in KTAP: without newlines, and without '#', which begins a directive.
std::string KtapText(absl::string_view text) {
  return absl::StrReplaceAll(
      base::PrintableTail(base::ToStd(text), std::numeric_limits<size_t>::max()),
      {{"\n", " "}, {"#", "_"}});
}

}  // namespace

std::string JunitXml(const std::vector<v1::RunRecord>& records) {
  VerdictCounts counts;
  double seconds = 0;
  std::string cases;
  for (const v1::RunRecord& record : records) {
    counts.Add(record.verdict());
    const double total =
        record.known_from().empty() ? record.timings().total_ms() / 1000.0 : 0;  // No run was made.
    seconds += total;
    absl::StrAppend(&cases, "    <testcase classname=\"", XmlAttribute(record.scenario()),
                    "\" name=\"", XmlAttribute(CaseName(record)), "\" time=\"",
                    absl::StrFormat("%.3f", total), "\">\n", JunitOutcome(record));
    if (record.verdict() != v1::PASS) {
      absl::StrAppend(&cases, "      <system-out>", Xml(record.scheduler_log()),
                      "</system-out>\n      <system-err>", Xml(record.console_tail()),
                      "</system-err>\n");
    }
    absl::StrAppend(&cases, "    </testcase>\n");
  }
  const std::string numbers = absl::StrFormat(
      "name=\"ktstr\" tests=\"%d\" failures=\"%d\" errors=\"%d\" skipped=\"%d\" time=\"%.3f\"",
      counts.total(), counts.failed, counts.errors, counts.skipped + counts.inconclusive, seconds);
  return absl::StrCat("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites ", numbers,
                      ">\n  <testsuite ", numbers, ">\n", cases, "  </testsuite>\n</testsuites>\n");
}

std::string KtapHead(size_t count) { return absl::StrCat("KTAP version 1\n1..", count, "\n"); }

std::string KtapLine(size_t number, const v1::RunRecord& record) {
  std::string out;
  if (!record.known_from().empty())
    absl::StrAppend(&out, "# known from ", record.known_from(), "\n");
  for (const v1::Finding& finding : record.findings()) {
    absl::StrAppend(&out, "# ", KtapText(finding.kind()), " ", KtapText(finding.where()),
                    finding.where().empty() ? "" : ": ", KtapText(finding.message()), "\n");
  }
  const bool skipped = record.verdict() == v1::SKIP || record.verdict() == v1::INCONCLUSIVE;
  const bool ok = record.verdict() == v1::PASS || skipped;
  absl::StrAppend(&out, ok ? "ok " : "not ok ", number, " ", KtapText(CaseName(record)));
  if (skipped) absl::StrAppend(&out, " # SKIP ", VerdictName(record.verdict()));
  return absl::StrCat(out, "\n");
}

absl::Status RecordDirectory::Write(const v1::RunRecord& record) {
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(directory_));
  KTSTR_ASSIGN_OR_RETURN(const std::string json, scenario::ToJson(record, /*pretty=*/true));
  const int repetition = ++written_[scenario::RecordFileName(record)];
  return base::WriteFileAtomic(
      base::JoinPath(directory_, scenario::RecordFileName(record, repetition)), json);
}

}  // namespace ktstr::client
