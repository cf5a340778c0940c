// SPDX-License-Identifier: Apache-2.0
#include "base/head_tail.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/string_view.h"

namespace ktstr::base {
namespace {

constexpr size_t kMaxCharacter = 4;  // Bytes of a UTF-8 character.

bool Continues(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

size_t LengthByLead(char c) {
  const auto lead = static_cast<unsigned char>(c);
  if (lead >= 0xf0) return 4;
  if (lead >= 0xe0) return 3;
  return lead >= 0xc0 ? 2 : 1;
}

// `text` without an incomplete character at its end.
std::string_view WholeAtEnd(std::string_view text) {
  for (size_t back = 1; back <= std::min(kMaxCharacter, text.size()); ++back) {
    const char c = text[text.size() - back];
    if (Continues(c)) continue;
    return LengthByLead(c) > back ? text.substr(0, text.size() - back) : text;
  }
  return text;
}

// `text` without the rest of a cut character at its beginning.
std::string_view WholeAtBegin(std::string_view text) {
  size_t rest = 0;
  while (rest < std::min(kMaxCharacter - 1, text.size()) && Continues(text[rest])) ++rest;
  return text.substr(rest);
}

}  // namespace

std::string LeftOutLine(uint64_t bytes) {
  return absl::StrCat("[", bytes, " bytes of output are left out here]");
}

void HeadTail::Append(std::string_view data) {
  if (!head_closed_) {
    const size_t room = std::min(data.size(), max_head_ - head_.size());
    head_.append(data.substr(0, room));
    data.remove_prefix(room);
    head_closed_ = head_.size() == max_head_;
  }
  if (data.size() >= max_tail_) {
    left_out_ += tail_.size() + (data.size() - max_tail_);
    tail_ = data.substr(data.size() - max_tail_);
    oldest_ = 0;
    return;
  }
  const size_t growth = std::min(data.size(), max_tail_ - tail_.size());
  tail_.append(data.substr(0, growth));
  data.remove_prefix(growth);
  left_out_ += data.size();
  while (!data.empty()) {
    const size_t piece = std::min(data.size(), max_tail_ - oldest_);
    memcpy(tail_.data() + oldest_, data.data(), piece);
    oldest_ = (oldest_ + piece) % max_tail_;
    data.remove_prefix(piece);
  }
}

void HeadTail::Skip(uint64_t bytes) {
  if (bytes == 0) return;
  head_closed_ = true;
  left_out_ += bytes + tail_.size();
  tail_.clear();
  oldest_ = 0;
}

std::string HeadTail::Tail() const { return tail_.substr(oldest_) + tail_.substr(0, oldest_); }

std::string HeadTail::Text() const {
  const std::string tail = Tail();
  if (left_out_ == 0) return head_ + tail;
  const std::string_view begin = WholeAtEnd(head_);
  const std::string_view end = WholeAtBegin(tail);
  const uint64_t missing = left_out_ + (head_.size() - begin.size()) + (tail.size() - end.size());
  return absl::StrCat(ToAbsl(begin), begin.empty() || begin.back() == '\n' ? "" : "\n",
                      LeftOutLine(missing), "\n", ToAbsl(end));
}

std::string LeftOutLinesLine(uint64_t lines) {
  return absl::StrCat("[", lines, " lines are left out here]");
}

void HeadTailLines::Append(std::string line) {
  if (head_.size() < max_head_) {
    head_.push_back(std::move(line));
    return;
  }
  tail_.push_back(std::move(line));
  if (tail_.size() <= max_tail_) return;
  tail_.pop_front();
  ++left_out_;
}

std::string HeadTailLines::Text() const {
  std::vector<std::string> lines(head_.begin(), head_.end());
  if (left_out_ > 0) lines.push_back(LeftOutLinesLine(left_out_));
  lines.insert(lines.end(), tail_.begin(), tail_.end());
  return absl::StrJoin(lines, "\n");
}

std::string CutMiddle(std::string_view text, size_t head, size_t tail) {
  HeadTail cut(head, tail);
  cut.Append(text);
  return cut.Text();
}

std::string CutMiddleLines(std::string_view text, size_t head, size_t tail) {
  const auto lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) +
                     (text.empty() || text.back() == '\n' ? 0 : 1);
  if (lines <= head + tail) return std::string(text);
  size_t head_end = 0;
  for (size_t i = 0; i < head; ++i) head_end = text.find('\n', head_end) + 1;
  size_t tail_begin = head_end;
  for (size_t i = head + tail; i < lines; ++i) tail_begin = text.find('\n', tail_begin) + 1;
  return absl::StrCat(ToAbsl(text.substr(0, head_end)), LeftOutLinesLine(lines - head - tail), "\n",
                      ToAbsl(text.substr(tail_begin)));
}

std::string CutLine(std::string_view line, size_t max) {
  if (line.size() <= max) return std::string(line);
  const size_t tail = max / 3;
  const std::string_view begin = WholeAtEnd(line.substr(0, max - tail));
  const std::string_view end = WholeAtBegin(line.substr(line.size() - tail));
  return absl::StrCat(ToAbsl(begin), "[", line.size() - begin.size() - end.size(),
                      " bytes are left out here]", ToAbsl(end));
}

}  // namespace ktstr::base
