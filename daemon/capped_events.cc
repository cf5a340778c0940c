// SPDX-License-Identifier: Apache-2.0
#include "daemon/capped_events.h"

#include <algorithm>
#include <string>

#include "base/utf8.h"

namespace ktstr::daemon {
namespace {

// Of RunConsole.text, before bad bytes grow threefold.
constexpr size_t kConsolePiece = size_t{8} << 10;

v1::RunEvent ProgressEvent(int64_t unix_ms, const v1::RunProgress& progress) {
  v1::RunEvent event;
  event.set_unix_ms(unix_ms);
  *event.mutable_progress() = progress;
  return event;
}

}  // namespace

void CappedEvents::Progress(int64_t unix_ms, const v1::RunProgress& progress) {
  if (lines_ < caps_.first_lines) {
    ++lines_;
    emit_(ProgressEvent(unix_ms, progress));
    return;
  }
  last_lines_.push_back(ProgressEvent(unix_ms, progress));
  if (last_lines_.size() <= caps_.last_lines) return;
  last_lines_.pop_front();
  ++lines_left_out_;
}

void CappedEvents::EmitConsole(int64_t unix_ms, std::string_view text) {
  v1::RunEvent event;
  event.set_unix_ms(unix_ms);
  event.mutable_console()->set_text(base::SanitizeUtf8(text));
  emit_(std::move(event));
}

void CappedEvents::Console(int64_t unix_ms, std::string_view text) {
  if (text.empty()) return;
  // Text that follows what is held back is held back too, however short it is.
  console_full_ = console_full_ || console_bytes_ + text.size() > caps_.first_bytes;
  if (console_full_) {
    console_tail_.Append(text);
    return;
  }
  console_bytes_ += text.size();
  line_open_ = text.back() != '\n';
  EmitConsole(unix_ms, text);
}

void CappedEvents::End(int64_t unix_ms) {
  if (lines_left_out_ > 0) {
    v1::RunProgress gap;
    gap.set_text(base::LeftOutLinesLine(lines_left_out_));
    emit_(ProgressEvent(unix_ms, gap));
  }
  for (v1::RunEvent& event : last_lines_) emit_(std::move(event));
  last_lines_.clear();
  // It begins with the line about the gap when there is one.
  std::string text = console_tail_.Text();
  if (line_open_ && console_tail_.left_out() > 0) text.insert(0, "\n");
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view piece = rest.substr(0, kConsolePiece);
    const size_t line_end = piece.rfind('\n');
    if (piece.size() < rest.size() && line_end != std::string_view::npos) {
      piece = piece.substr(0, line_end + 1);
    }
    EmitConsole(unix_ms, piece);
    rest.remove_prefix(piece.size());
  }
}

}  // namespace ktstr::daemon
