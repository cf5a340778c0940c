// SPDX-License-Identifier: Apache-2.0
#include "guest/console.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace ktstr::guest {
namespace {

constexpr std::string_view kPrefix = "ktstr-agent: ";
constexpr size_t kMaxText = 1000;
constexpr size_t kMaxGap = 64;  // The words about what is missing.

}  // namespace

void AttachConsole() {
  if (fcntl(2, F_GETFD) >= 0) return;
  int fd = open("/dev/console", O_RDWR | O_NOCTTY);
  if (fd < 0) fd = open("/dev/null", O_RDWR);
  if (fd < 0) return;
  // No descriptor below 3 may stay free: a file that is opened later would become somebody's
  // stdout.
  for (int target = 0; target <= 2; ++target) {
    if (fd != target && fcntl(target, F_GETFD) < 0) dup2(fd, target);
  }
  if (fd > 2) close(fd);
}

std::string_view ConsoleText(std::string_view text, char* buffer, size_t size) {
  size_t used = std::min(kPrefix.size(), size);
  memcpy(buffer, kPrefix.data(), used);
  const size_t room = std::min(kMaxText, size - used - 1);
  const auto put = [&](std::string_view part) {
    for (char c : part) {
      buffer[used++] = static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    }
  };
  if (text.size() <= room || room <= kMaxGap) {
    put(text.substr(0, room));
  } else {
    // As base::CutLine, without memory of its own.
    const size_t kept = room - kMaxGap;
    char gap[kMaxGap];
    const int length =
        snprintf(gap, sizeof(gap), "[%zu bytes are left out here]", text.size() - kept);
    put(text.substr(0, kept - kept / 3));
    put({gap, static_cast<size_t>(length)});
    put(text.substr(text.size() - kept / 3));
  }
  buffer[used++] = '\n';
  return {buffer, used};
}

void ConsoleLine(std::string_view text) {
  char buffer[kPrefix.size() + kMaxText + 1];
  const std::string_view line = ConsoleText(text, buffer, sizeof(buffer));
  // One attempt: nothing is left that could report a failure.
  if (write(2, line.data(), line.size()) < 0) return;
}

}  // namespace ktstr::guest
