// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ktstr::base {
namespace {

std::atomic<LogSeverity> min_severity{LogSeverity::INFO};

}  // namespace

void SetMinLogSeverity(LogSeverity severity) { min_severity = severity; }

LogMessage::LogMessage(const char* file, int line, LogSeverity severity) : severity_(severity) {
  const char* slash = strrchr(file, '/');
  stream_ << "IWEF"[static_cast<int>(severity)]
          << absl::FormatTime("%Y-%m-%d %H:%M:%E3S ", absl::Now(), absl::LocalTimeZone())
          << (slash != nullptr ? slash + 1 : file) << ':' << line << "] ";
}

LogMessage::~LogMessage() {
  if (severity_ >= min_severity.load()) {
    stream_ << '\n';
    std::string line = stream_.str();
    // Nothing can be done about a diagnostic that cannot be written.
    [[maybe_unused]] ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  }
  if (severity_ == LogSeverity::FATAL) abort();
}

}  // namespace ktstr::base
