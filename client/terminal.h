// SPDX-License-Identifier: Apache-2.0
//
// The output of a command. Never mixes results for people and for machines: `Result` writes the
// result, `Note` everything before it (stderr). Erases the live line, which only a terminal shows,
// before it writes anything else. Any thread.

#ifndef KTSTR_CLIENT_TERMINAL_H_
#define KTSTR_CLIENT_TERMINAL_H_

#include <atomic>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"

namespace ktstr::client {

enum class ColorMode { kAuto, kAlways, kNever };

struct TerminalOptions {
  ColorMode color = ColorMode::kAuto;
  bool machine_stdout = false;  // stdout belongs to --json or --ktap: Result goes to stderr.
  bool quiet = false;           // Notes and the live line are dropped.
  int out_fd = 1;
  int err_fd = 2;
  // Set when writing to stdout fails (closed, full disk); outlives the terminal.
  std::atomic<bool>* output_lost = nullptr;
};

class Terminal {
 public:
  // auto: colour on a terminal whose TERM is not "dumb", unless NO_COLOR is set (and not empty).
  explicit Terminal(const TerminalOptions& options);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool color() const { return color_; }
  // Whether a live line can be shown: stderr is a terminal and notes are wanted.
  bool live() const { return live_; }

  // Unchanged.
  void Result(absl::string_view text);
  // Always on stdout.
  void Machine(absl::string_view text);
  // One line; adds a newline. Dropped with -q.
  void Note(absl::string_view text);
  // One paragraph on stderr; adds a newline. Never dropped.
  void Error(absl::string_view text);
  // Unchanged on stderr. Never dropped: only --dmesg asks for it.
  void Console(absl::string_view text);
  // Replaces the live line; cut to the width of the terminal.
  void Live(absl::string_view line);

 private:
  void Write(int fd, absl::string_view text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EraseLiveLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TerminalOptions options_;
  const bool live_;
  const bool color_;
  mutable base::Mutex mutex_;
  std::string live_line_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_TERMINAL_H_
