// SPDX-License-Identifier: Apache-2.0

#include "scenario/scheduler_output.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/string_view.h"
#include "scenario/facts.h"

namespace ktstr::scenario {
namespace {

// What libbpf prints around the verifier's log.
constexpr char kLogBegin[] = "-- BEGIN PROG LOAD LOG --";
constexpr char kLogEnd[] = "-- END PROG LOAD LOG --";

// A line of libbpf that names a cause, and not one that follows any failure or only informs.
bool IsLibbpfCause(absl::string_view line) {
  return absl::StartsWith(line, "libbpf: ") && !absl::StartsWith(line, "libbpf: failed to load ") &&
         !absl::StrContains(line, "skipping") && !absl::StrContains(line, "BPF skeleton");
}

constexpr absl::string_view kPanicked = " panicked at ";

bool IsPanic(absl::string_view line) {
  return absl::StartsWith(line, "thread '") && absl::StrContains(line, kPanicked);
}

bool IsErrorLine(absl::string_view line) {
  return IsPanic(line) || absl::StartsWithIgnoreCase(line, "error:") ||
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

// A panic of Rust at lines[*at]; *at becomes its last line. From Rust 1.73 on it has two lines:
//   thread 'NAME' (TID) panicked at FILE:LINE:COLUMN:
//   MESSAGE
// and before it one: thread 'NAME' panicked at 'MESSAGE', FILE:LINE:COLUMN. Where the file is in
// cargo's registry or in Rust's own source, its name begins with the crate.
std::string Panic(const std::vector<absl::string_view>& lines, size_t* at) {
  const absl::string_view line = lines[*at];
  const size_t place = line.find(kPanicked) + kPanicked.size();
  absl::string_view file = line.substr(place);
  if (!absl::EndsWith(file, ":")) return std::string(line);
  for (const absl::string_view root : {"/registry/src/", "/rustc/"}) {
    const size_t begin = file.find(root);
    if (begin == absl::string_view::npos) continue;
    const size_t end = file.find('/', begin + root.size());
    if (end != absl::string_view::npos) file.remove_prefix(end + 1);
  }
  std::string text = absl::StrCat(line.substr(0, place), file);
  while (*at + 1 < lines.size() && !lines[*at + 1].empty() &&
         !absl::StartsWith(lines[*at + 1], "note: ") && lines[*at + 1] != "stack backtrace:") {
    absl::StrAppend(&text, " ", lines[++*at]);
  }
  return text;
}

// The error or the panic at lines[at], and the chain of causes of Rust's anyhow, as one line:
//   Error: MEANING
//
//   Caused by:
//       0: CAUSE            (the number stands only before one of several causes)
//       1: CAUSE OF THE CAUSE
std::string ErrorChain(const std::vector<absl::string_view>& lines, size_t at) {
  std::string chain = IsPanic(lines[at]) ? Panic(lines, &at) : std::string(lines[at]);
  size_t next = at + 1;
  while (next < lines.size() && lines[next].empty()) ++next;
  if (next == lines.size() || lines[next] != "Caused by:") return chain;
  for (++next; next < lines.size() && !lines[next].empty(); ++next) {
    if (absl::StartsWith(lines[next], "note: ")) break;
    absl::string_view cause = lines[next];
    const size_t digits = std::min(cause.find_first_not_of("0123456789"), cause.size());
    absl::string_view text = cause.substr(digits);
    if (digits > 0 && absl::ConsumePrefix(&text, ": ")) cause = text;
    absl::StrAppend(&chain, ": ", cause);
  }
  return chain;
}

std::vector<absl::string_view> Lines(absl::string_view output) {
  std::vector<absl::string_view> lines;
  for (const absl::string_view line : absl::StrSplit(output, '\n'))
    lines.push_back(absl::StripAsciiWhitespace(line));
  return lines;
}

// The first line, other than of information, that has one of `texts`; empty when there is none.
std::string FirstWith(const std::string& output, const std::vector<absl::string_view>& texts) {
  for (const absl::string_view line : Lines(output)) {
    if (IsInformation(line)) continue;
    for (const absl::string_view text : texts) {
      if (absl::StrContains(line, text)) return OneLine(base::ToStd(line));
    }
  }
  return "";
}

}  // namespace

std::string LastLine(const std::string& output, absl::string_view prefix) {
  std::string found;
  for (absl::string_view line : absl::StrSplit(output, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!line.empty() && absl::StartsWith(line, prefix)) found = std::string(line);
  }
  return OneLine(found);
}

std::string ExitMessage(const std::string& output, absl::string_view reason) {
  const std::string prefix = absl::StrCat("EXIT: ", reason, " (");
  std::string found;
  for (absl::string_view line : absl::StrSplit(output, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    const size_t at = line.find(prefix);
    if (at == absl::string_view::npos) continue;
    absl::string_view message = line.substr(at + prefix.size());
    constexpr absl::string_view kOnCpu = ") on CPU ";
    if (const size_t cpu = message.rfind(kOnCpu);
        cpu != absl::string_view::npos &&
        message.find_first_not_of("0123456789", cpu + kOnCpu.size()) == absl::string_view::npos) {
      message.remove_suffix(message.size() - cpu - 1);
    }
    if (absl::ConsumeSuffix(&message, ")")) found = std::string(message);
  }
  return found;
}

std::optional<Rejection> FindRejection(const std::string& output) {
  const size_t begin = output.find(kLogBegin);
  if (begin == std::string::npos) return std::nullopt;
  Rejection rejection;
  const size_t line_begin = output.rfind('\n', begin) + 1;  // npos + 1 is 0.
  const std::string line = output.substr(line_begin, begin - line_begin);
  if (const size_t quote = line.find("prog '"); quote != std::string::npos) {
    const size_t start = quote + 6;
    rejection.program = OneLine(line.substr(start, line.find('\'', start) - start));
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
      rejection.reason = OneLine(base::ToStd(stripped));
    }
  }
  return rejection;
}

std::string NoMemoryLine(const std::string& output) {
  return FirstWith(output, {"Cannot allocate memory", "-ENOMEM", "(os error 12)"});
}

bool HasInvalidArgument(const std::string& output) {
  return !FirstWith(output, {"Invalid argument", "-EINVAL", "(os error 22)"}).empty();
}

std::string ErrorAfterExit(const std::string& output) {
  const size_t exit = output.rfind("EXIT: ");
  if (exit == std::string::npos) return "";
  const std::vector<absl::string_view> lines = Lines(absl::string_view(output).substr(exit));
  std::string libbpf;
  for (size_t i = 1; i < lines.size(); ++i) {
    if (IsErrorLine(lines[i])) return OneLine(ErrorChain(lines, i));
    if (libbpf.empty() && IsLibbpfCause(lines[i])) libbpf = OneLine(base::ToStd(lines[i]));
  }
  return libbpf;
}

std::string QuoteOutput(const std::string& output, bool even_information) {
  const std::vector<absl::string_view> lines = Lines(output);
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
  if (last.empty() && even_information) last = last_of_all;
  return last.empty() ? "" : absl::StrCat("; its last output: ", OneLine(base::ToStd(last)));
}

}  // namespace ktstr::scenario
