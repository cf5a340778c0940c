// SPDX-License-Identifier: Apache-2.0
//
// Long waits deep in a call end when nobody wants their result any more, and are not silent. The
// thread that serves a client or a run makes one WaitScope; whatever waits on that thread for
// another process (FileLock::Acquire) asks it. Without one, a wait ends at its time-out only.

#ifndef KTSTR_BASE_WAIT_SCOPE_H_
#define KTSTR_BASE_WAIT_SCOPE_H_

#include <functional>
#include <string>

namespace ktstr::base {

// Counts for the thread that made it, while it lives. An inner one takes the place of an outer one.
class WaitScope {
 public:
  // `cancelled`: called every few milliseconds during a wait; true ends it. `waiting`: called once
  // when a wait begins, with what is waited for and who has it; may be empty.
  explicit WaitScope(std::function<bool()> cancelled,
                     std::function<void(const std::string&)> waiting = {});
  ~WaitScope();
  WaitScope(const WaitScope&) = delete;
  WaitScope& operator=(const WaitScope&) = delete;

  // For code that waits, on the calling thread.
  static bool Cancelled();
  static void Waiting(const std::string& text);

 private:
  const std::function<bool()> cancelled_;
  const std::function<void(const std::string&)> waiting_;
  WaitScope* const outer_;
};

}  // namespace ktstr::base

#endif  // KTSTR_BASE_WAIT_SCOPE_H_
