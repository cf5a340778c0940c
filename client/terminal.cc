// SPDX-License-Identifier: Apache-2.0
#include "client/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/string_view.h"

namespace ktstr::client {
namespace {

bool DumbTerminal() {
  const char* term = getenv("TERM");
  return term == nullptr || *term == '\0' || absl::string_view(term) == "dumb";
}

bool WantsColor(const TerminalOptions& options) {
  if (options.color != ColorMode::kAuto) return options.color == ColorMode::kAlways;
  const char* no_color = getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  return isatty(options.machine_stdout ? options.err_fd : options.out_fd) == 1 && !DumbTerminal();
}

size_t Width(int fd) {
  winsize size = {};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// The first `columns` code points, never half of one: for our own texts a code point is a column.
absl::string_view Cut(absl::string_view text, size_t columns) {
  size_t points = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & 0xc0) != 0x80 && ++points > columns) return text.substr(0, i);
  }
  return text;
}

}  // namespace

Terminal::Terminal(const TerminalOptions& options)
    : options_(options),
      live_(!options.quiet && isatty(options.err_fd) == 1 && !DumbTerminal()),
      color_(WantsColor(options)) {}

Terminal::~Terminal() {
  base::MutexLock lock(&mutex_);
  EraseLiveLocked();
}

void Terminal::Write(int fd, absl::string_view text) {
  const bool written = base::WriteAll(fd, base::ToStd(text), "output").ok();
  if (!written && fd == options_.out_fd && options_.output_lost != nullptr)
    options_.output_lost->store(true);
}

void Terminal::EraseLiveLocked() {
  if (live_line_.empty()) return;
  Write(options_.err_fd, "\r\x1b[K");
  live_line_.clear();
}

void Terminal::Result(absl::string_view text) {
  base::MutexLock lock(&mutex_);
  EraseLiveLocked();
  Write(options_.machine_stdout ? options_.err_fd : options_.out_fd, text);
}

void Terminal::Machine(absl::string_view text) {
  base::MutexLock lock(&mutex_);
  EraseLiveLocked();
  Write(options_.out_fd, text);
}

void Terminal::Note(absl::string_view text) {
  if (options_.quiet) return;
  base::MutexLock lock(&mutex_);
  EraseLiveLocked();
  Write(options_.err_fd, absl::StrCat(text, "\n"));
}

void Terminal::Error(absl::string_view text) {
  base::MutexLock lock(&mutex_);
  EraseLiveLocked();
  Write(options_.err_fd, absl::StrCat(text, "\n"));
}

void Terminal::Console(absl::string_view text) {
  base::MutexLock lock(&mutex_);
  EraseLiveLocked();
  Write(options_.err_fd, text);
}

void Terminal::Live(absl::string_view line) {
  if (!live_) return;
  base::MutexLock lock(&mutex_);
  const std::string cut(Cut(line, Width(options_.err_fd) - 1));
  if (cut == live_line_) return;
  Write(options_.err_fd, absl::StrCat("\r\x1b[K", cut));
  live_line_ = cut;
}

}  // namespace ktstr::client
