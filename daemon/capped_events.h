// SPDX-License-Identifier: Apache-2.0
//
// Bounds the progress lines and the console text that a run stores, whatever its guest and its VM
// process send. Passes the first ones on as they come and keeps the last ones, which End() passes
// on behind a line that says how much is missing. One thread.

#ifndef KTSTR_DAEMON_CAPPED_EVENTS_H_
#define KTSTR_DAEMON_CAPPED_EVENTS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string_view>
#include <utility>

#include "base/head_tail.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::daemon {

struct EventCaps {
  size_t first_lines = 1800;  // Progress.
  size_t last_lines = 200;
  size_t first_bytes = size_t{12} << 20;  // Console.
  size_t last_bytes = size_t{4} << 20;
};

class CappedEvents {
 public:
  using Emit = std::function<void(v1::RunEvent)>;
  CappedEvents(const EventCaps& caps, Emit emit)
      : caps_(caps), emit_(std::move(emit)), console_tail_(0, caps.last_bytes) {}

  void Progress(int64_t unix_ms, const v1::RunProgress& progress);
  void Console(int64_t unix_ms, std::string_view text);
  // Once, when nothing more comes.
  void End(int64_t unix_ms);

 private:
  void EmitConsole(int64_t unix_ms, std::string_view text);

  const EventCaps caps_;
  const Emit emit_;
  size_t lines_ = 0;  // Passed on.
  uint64_t lines_left_out_ = 0;
  std::deque<v1::RunEvent> last_lines_;
  size_t console_bytes_ = 0;  // Passed on.
  bool console_full_ = false;
  bool line_open_ = false;  // What was passed on does not end with a line's end.
  base::HeadTail console_tail_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_CAPPED_EVENTS_H_
