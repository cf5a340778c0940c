// SPDX-License-Identifier: Apache-2.0
#include "vmm/console.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/head_tail.h"
#include "base/status_macros.h"
#include "base/string_view.h"

namespace ktstr::vmm {
namespace {

// Of a console that is over its cap, the text ends with the last of it.
constexpr uint64_t kTailBytes = uint64_t{1} << 20;

absl::Status Append(int fd, uint64_t begin, uint64_t end, std::string* out) {
  while (begin < end) {
    char buffer[1 << 16];
    ssize_t got = pread(fd, buffer, std::min<uint64_t>(sizeof(buffer), end - begin),
                        static_cast<off_t>(begin));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::ErrnoStatus(errno, "console: read");
    if (got == 0) break;
    out->append(buffer, static_cast<size_t>(got));
    begin += static_cast<uint64_t>(got);
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

uint64_t Console::size() const { return base::SizeOf(memfd_.get(), "the console").value_or(0); }

absl::StatusOr<std::string> Console::Text() const {
  const uint64_t bytes = size();
  std::string text;
  if (bytes <= kCap) {
    KTSTR_RETURN_IF_ERROR(Append(memfd_.get(), 0, bytes, &text));
    return text;
  }
  base::HeadTail both(kCap - kTailBytes, kTailBytes);
  KTSTR_RETURN_IF_ERROR(Append(memfd_.get(), 0, kCap - kTailBytes, &text));
  both.Append(text);
  text.clear();
  both.Skip(bytes - kCap);
  KTSTR_RETURN_IF_ERROR(Append(memfd_.get(), bytes - kTailBytes, bytes, &text));
  both.Append(text);
  return both.Text();
}

absl::StatusOr<std::string> Console::TextFrom(uint64_t offset, uint64_t max_bytes) const {
  std::string text;
  KTSTR_RETURN_IF_ERROR(Append(memfd_.get(), offset, std::min(size(), offset + max_bytes), &text));
  return text;
}

std::string PanicLine(std::string_view console) {
  std::string panic;
  std::string cause;
  for (absl::string_view raw : absl::StrSplit(base::ToAbsl(console), '\n')) {
    std::string_view line = WithoutStamp(base::ToStd(raw));
    absl::string_view text = base::ToAbsl(line);
    if (absl::StrContains(text, "end Kernel panic")) continue;
    if (absl::StrContains(text, "Kernel panic - ")) panic = std::string(line);
    if (cause.empty() && (absl::StartsWith(text, "BUG:") || absl::StartsWith(text, "Oops:") ||
                          absl::StartsWith(text, "general protection fault"))) {
      cause = std::string(line);
    }
  }
  if (panic.empty()) return cause;
  if (!cause.empty()) return absl::StrCat(panic, " (", cause, ")");
  return panic;
}

std::string AgentError(std::string_view console) {
  return LastAfter(console, "ktstr-agent: error: ");
}

v1::Stage AgentStage(std::string_view console) {
  v1::Stage stage = v1::STAGE_UNSPECIFIED;
  v1::Stage_Parse(LastAfter(console, "ktstr-agent: stage "), &stage);
  return stage;
}

bool IsEmulationFault(std::string_view console) {
  return absl::StrContains(base::ToAbsl(console), "Oops: int3") ||
         absl::StrContains(base::ToAbsl(console), "int3: 0000");
}

}  // namespace ktstr::vmm
