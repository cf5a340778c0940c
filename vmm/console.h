// SPDX-License-Identifier: Apache-2.0
//
// What the guest wrote to its serial port. The engine writes it into a memfd, so a slow host never
// makes the guest wait (a pipe would, and host load would reach the guest). Bounded twice: the
// owner ends the run when OverCap(), and the engine gets kHardLimit as its RLIMIT_FSIZE, in case
// the guest writes faster than the owner looks.
//
// A second object of the same kind captures the engine's own stdout and stderr.
//
// One thread.

#ifndef KTSTR_VMM_CONSOLE_H_
#define KTSTR_VMM_CONSOLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "ktstr/v1/observation.pb.h"

namespace ktstr::vmm {

class Console {
 public:
  static constexpr uint64_t kCap = uint64_t{4} << 20;
  // Of a console over its cap, the text ends with the last of it.
  static constexpr uint64_t kTailBytes = uint64_t{1} << 20;
  static constexpr uint64_t kHardLimit = uint64_t{16} << 20;

  static absl::StatusOr<Console> Create();

  int fd() const { return memfd_.get(); }  // For the engine to write to.
  // Forgets what has been written so far, which still counts against the hard limit.
  void Restart() { begin_ += size(); }
  bool CanRestart() const { return begin_ + size() <= kCap; }
  uint64_t size() const;
  bool OverCap() const { return size() > kCap; }
  // The whole text; when it is over its cap, the first 3 MiB and the last 1 MiB (base/head_tail.h).
  absl::StatusOr<std::string> Text() const;
  // At most `max_bytes` from byte `offset` on.
  absl::StatusOr<std::string> TextFrom(uint64_t offset, uint64_t max_bytes) const;

 private:
  explicit Console(base::UniqueFd memfd) : memfd_(std::move(memfd)) {}
  base::UniqueFd memfd_;
  uint64_t begin_ = 0;  // Of the text, in the file.
};

// Lines that may explain an end, in their order: of a panic, of what leads to one ("BUG:", "Oops:",
// …), of tasks that are blocked and of a reboot. The first 20 and the last 20, each cut at 400
// bytes. Any process in the guest can write such lines.
std::vector<std::string> CrashLines(std::string_view console);

// The error of an agent that could not use the window: TEXT of the last "ktstr-agent: error: TEXT".
std::string AgentError(std::string_view console);
// The last "ktstr-agent: stage NAME"; STAGE_UNSPECIFIED when NAME is unknown.
v1::Stage AgentStage(std::string_view console);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_CONSOLE_H_
