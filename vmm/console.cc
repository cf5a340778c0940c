// SPDX-License-Identifier: Apache-2.0
#include "vmm/console.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/head_tail.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/utf8.h"

namespace ktstr::vmm {
namespace {

constexpr size_t kMaxCrashLine = 400;
// How a line of CrashLines() begins, behind its time stamp.
constexpr absl::string_view kCrashMarks[] = {"Kernel panic - not syncing",
                                             "BUG:",
                                             "Oops:",
                                             "int3:",
                                             "general protection fault",
                                             "kernel BUG at",
                                             "INFO: task ",
                                             "sysrq: Resetting",
                                             "sysrq: Trigger a crash",
                                             "sysrq: Power Off",
                                             "reboot: "};

absl::Status Append(int fd, uint64_t begin, uint64_t end, std::string* out) {
  while (begin < end) {
    char buffer[1 << 16];
    KTSTR_ASSIGN_OR_RETURN(const size_t got,
                           base::ReadAt(fd, buffer, std::min<uint64_t>(sizeof(buffer), end - begin),
                                        begin, "the console"));
    if (got == 0) break;
    out->append(buffer, got);
    begin += got;
  }
  return absl::OkStatus();
}

// "[    1.234567][   T12] text" -> "text"
std::string_view WithoutStamp(std::string_view line) {
  line = base::ToStd(absl::StripAsciiWhitespace(base::ToAbsl(line)));
  while (!line.empty() && line.front() == '[') {
    size_t close = line.find(']');
    if (close == std::string_view::npos) break;
    line.remove_prefix(close + 1);
    while (!line.empty() && line.front() == ' ') line.remove_prefix(1);
  }
  return line;
}

// The rest of the last line that has `mark` in it; empty when there is none.
std::string LastAfter(std::string_view text, std::string_view mark) {
  const size_t at = text.rfind(mark);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + mark.size());
  return std::string(WithoutStamp(text.substr(0, text.find('\n'))));
}

}  // namespace

absl::StatusOr<Console> Console::Create() {
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd memfd, base::MakeMemfd("ktstr-console", 0));
  return Console(std::move(memfd));
}

uint64_t Console::size() const {
  const uint64_t all = base::SizeOf(memfd_.get(), "the console").value_or(0);
  return all - std::min(all, begin_);
}

absl::StatusOr<std::string> Console::Text() const {
  const uint64_t bytes = size();
  std::string text;
  if (bytes <= kCap) {
    KTSTR_RETURN_IF_ERROR(Append(memfd_.get(), begin_, begin_ + bytes, &text));
    return text;
  }
  base::HeadTail both(kCap - kTailBytes, kTailBytes);
  KTSTR_RETURN_IF_ERROR(Append(memfd_.get(), begin_, begin_ + kCap - kTailBytes, &text));
  both.Append(text);
  text.clear();
  both.Skip(bytes - kCap);
  KTSTR_RETURN_IF_ERROR(Append(memfd_.get(), begin_ + bytes - kTailBytes, begin_ + bytes, &text));
  both.Append(text);
  return both.Text();
}

absl::StatusOr<std::string> Console::TextFrom(uint64_t offset, uint64_t max_bytes) const {
  std::string text;
  KTSTR_RETURN_IF_ERROR(
      Append(memfd_.get(), begin_ + offset, begin_ + std::min(size(), offset + max_bytes), &text));
  return text;
}

std::vector<std::string> CrashLines(std::string_view console) {
  constexpr size_t kKept = 20;  // At each end.
  std::vector<std::string> lines;
  for (absl::string_view raw : absl::StrSplit(base::ToAbsl(console), '\n')) {
    const absl::string_view line = base::ToAbsl(WithoutStamp(base::ToStd(raw)));
    if (std::none_of(std::begin(kCrashMarks), std::end(kCrashMarks),
                     [line](absl::string_view mark) { return absl::StartsWith(line, mark); })) {
      continue;
    }
    if (lines.size() == 2 * kKept) lines.erase(lines.begin() + kKept);
    lines.push_back(base::OneLine(base::ToStd(raw), kMaxCrashLine));
  }
  return lines;
}

std::string AgentError(std::string_view console) {
  return LastAfter(console, "ktstr-agent: error: ");
}

v1::Stage AgentStage(std::string_view console) {
  v1::Stage stage = v1::STAGE_UNSPECIFIED;
  v1::Stage_Parse(LastAfter(console, "ktstr-agent: stage "), &stage);
  return stage;
}

}  // namespace ktstr::vmm
