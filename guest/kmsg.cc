// SPDX-License-Identifier: Apache-2.0
#include "guest/kmsg.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <system_error>

#include "base/utf8.h"

namespace ktstr::guest {
namespace {

constexpr size_t kMaxLine = 1024;
constexpr int kMaxRecordsPerDrain = 4096;
constexpr std::string_view kSubject = "sched_ext: BPF scheduler \"";
constexpr std::string_view kEnabled = "\" enabled";
constexpr std::string_view kDisabled = "\" disabled (";
constexpr size_t kEscapeSize = 4;  // "\\xHH"

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The byte of the escape that `text` begins with; nullopt when it begins with none.
std::optional<char> EscapedByte(std::string_view text) {
  if (text.size() < kEscapeSize || text[0] != '\\' || text[1] != 'x') return std::nullopt;
  const int high = HexDigit(text[2]);
  const int low = HexDigit(text[3]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

// The record's first number is facility * 8 + level; the kernel's own facility is 0, and the kernel
// gives another one to whatever a program writes to /dev/kmsg.
bool FromKernel(std::string_view record) {
  constexpr int kLevels = 8;
  int prefix = 0;
  const char* const end = record.data() + record.size();
  const auto [after, error] = std::from_chars(record.data(), end, prefix);
  return error == std::errc() && after != end && *after == ',' && prefix >= 0 && prefix < kLevels;
}

}  // namespace

std::string KmsgText(std::string_view record) {
  const size_t semicolon = record.find(';');
  if (semicolon == std::string_view::npos || !FromKernel(record)) return {};
  record.remove_prefix(semicolon + 1);
  record = record.substr(0, record.find('\n'));
  std::string text;
  while (!record.empty()) {
    const std::optional<char> escaped = EscapedByte(record);
    text += escaped.value_or(record.front());
    record.remove_prefix(escaped.has_value() ? kEscapeSize : 1);
  }
  return text;
}

void DisableWatcher::Line(std::string_view text) {
  const bool about_scheduler = text.substr(0, kSubject.size()) == kSubject;
  if (about_scheduler && text.find(kEnabled) != std::string_view::npos) {
    enabled_seen_ = true;
    if (seen_ && may_restart()) {
      ++restarts_;
      seen_ = false;
      reason_.clear();
      lines_ = base::HeadTailLines(kLines, kLines);
    }
  }
  const size_t disabled = text.find(kDisabled);
  const bool starts = about_scheduler && disabled != std::string_view::npos;
  if (starts) {
    // The first one counts: later ones follow from it, or belong to a scheduler that restarted
    // itself.
    if (seen()) {
      in_paragraph_ = false;
      return;
    }
    in_paragraph_ = true;
    const size_t from = disabled + kDisabled.size();
    reason_ = base::SanitizeUtf8(text.substr(from, text.rfind(')') - from));
  } else if (about_scheduler) {
    in_paragraph_ = false;  // Another event, such as its start after a restart.
    return;
  } else if (in_paragraph_) {
    const bool continues = !text.empty() && (text[0] == ' ' || text.substr(0, 11) == "sched_ext: ");
    if (!continues) return;  // Other lines of the kernel may come in between.
  } else {
    return;
  }
  seen_ = true;
  lines_.Append(base::SanitizeUtf8(base::CutLine(text, kMaxLine)));
}

KmsgReader::KmsgReader(const std::string& path)
    : fd_(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (fd_.valid()) lseek(fd_.get(), 0, SEEK_END);
}

void KmsgReader::Drain(const std::function<void(std::string_view)>& take) {
  char record[8192];
  for (int i = 0; fd_.valid() && i < kMaxRecordsPerDrain; ++i) {
    const ssize_t size = read(fd_.get(), record, sizeof(record));
    if (size < 0 && errno == EPIPE) continue;  // Records were overwritten before they were read.
    if (size <= 0) return;
    take(KmsgText(std::string_view(record, size)));
  }
}

}  // namespace ktstr::guest
