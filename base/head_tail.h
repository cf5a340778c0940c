// SPDX-License-Identifier: Apache-2.0
//
// Output of any length in bounded memory: its beginning (how the program started), its end (why it
// ended), and between them one line with the number of missing bytes. Every cap on output uses
// this. One thread at a time.

#ifndef KTSTR_BASE_HEAD_TAIL_H_
#define KTSTR_BASE_HEAD_TAIL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace ktstr::base {

// What is kept of a program's output.
inline constexpr size_t kOutputHead = size_t{256} << 10;
inline constexpr size_t kOutputTail = size_t{768} << 10;

// "[1234 bytes of output are left out here]"
std::string LeftOutLine(uint64_t bytes);

class HeadTail {
 public:
  // Keeps the first `head` and the last `tail` bytes. Memory grows with what is kept.
  HeadTail(size_t head, size_t tail) : max_head_(head), max_tail_(tail) {}

  void Append(std::string_view data);
  // The sender left out `bytes` here. Later output belongs to the tail; a tail that was kept before
  // the gap is dropped, so that there is only one gap.
  void Skip(uint64_t bytes);

  uint64_t left_out() const { return left_out_; }
  // Head and tail; when something is missing, LeftOutLine on a line of its own between them.
  // Without the parts of a UTF-8 character that the gap cuts in two.
  std::string Text() const;
  // The tail alone, in order.
  std::string Tail() const;

 private:
  size_t max_head_;
  size_t max_tail_;
  bool head_closed_ = false;
  std::string head_;
  std::string tail_;   // A ring once it holds max_tail_ bytes.
  size_t oldest_ = 0;  // Index of the ring's first byte.
  uint64_t left_out_ = 0;
};

// The same for lines that come one by one: the first `head` and the last `tail`, and between them
// "[12 lines are left out here]".
class HeadTailLines {
 public:
  HeadTailLines(size_t head, size_t tail) : max_head_(head), max_tail_(tail) {}
  void Append(std::string line);  // Without its end.
  // Joined by newlines.
  std::string Text() const;

 private:
  size_t max_head_;
  size_t max_tail_;
  std::deque<std::string> head_;
  std::deque<std::string> tail_;
  uint64_t left_out_ = 0;
};
std::string LeftOutLinesLine(uint64_t lines);

// `text` as HeadTail(head, tail) keeps it.
std::string CutMiddle(std::string_view text, size_t head, size_t tail);
// The same for the lines of `text`, as HeadTailLines does.
std::string CutMiddleLines(std::string_view text, size_t head, size_t tail);
// The same within a line: "begin[123 bytes are left out here]end". At most `max` bytes and the
// words in brackets; two thirds of it are the beginning.
std::string CutLine(std::string_view line, size_t max);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_HEAD_TAIL_H_
