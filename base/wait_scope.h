// SPDX-License-Identifier: Apache-2.0
//
// Lets code deep in a call report a long wait and end it when nobody needs its result any more. The
// thread that serves a client or a run makes a WaitScope; code on that thread that waits for
// another process (FileLock::Acquire) asks it. Without one, a wait ends only at its time-out.

#ifndef KTSTR_BASE_WAIT_SCOPE_H_
#define KTSTR_BASE_WAIT_SCOPE_H_

#include <functional>
#include <string>

namespace ktstr::base {

// Applies to the thread that made it, while the object exists. An inner scope replaces an outer
// one.
class WaitScope {
 public:
  // `cancelled`: called several times a second during a wait; true ends it. `waiting`: called once
  // when a wait begins, with a text that names the lock and its holders; may be empty.
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
