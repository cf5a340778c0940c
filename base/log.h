// SPDX-License-Identifier: Apache-2.0
//
// Diagnostics of a process on stderr: "I2026-11-24 20:43:39.123 file.cc:12] text". Debian 12's
// Abseil has no logging. KTSTR_LOG(INFO|WARNING|ERROR) << ...; KTSTR_CHECK(condition) << ...
// aborts: for invariants only, never for input. Any thread; each line is one write(2).

#ifndef KTSTR_BASE_LOG_H_
#define KTSTR_BASE_LOG_H_

#include <sstream>

namespace ktstr::base {

enum class LogSeverity { INFO, WARNING, ERROR, FATAL };

// Drops lines below `severity`. Default: INFO. Any thread.
void SetMinLogSeverity(LogSeverity severity);

class LogMessage {
 public:
  LogMessage(const char* file, int line, LogSeverity severity);
  ~LogMessage();  // Writes the line; FATAL aborts.
  std::ostream& stream() { return stream_; }

 private:
  LogSeverity severity_;
  std::ostringstream stream_;
};

}  // namespace ktstr::base

#define KTSTR_LOG(severity) \
  ::ktstr::base::LogMessage(__FILE__, __LINE__, ::ktstr::base::LogSeverity::severity).stream()
#define KTSTR_CHECK(condition) \
  while (!(condition)) KTSTR_LOG(FATAL) << "check failed: " #condition " "

#endif  // KTSTR_BASE_LOG_H_
