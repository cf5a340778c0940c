// SPDX-License-Identifier: Apache-2.0
//
// PID 1 inherits every orphan: this one place reaps all children, and whoever started one gets its
// end here. One thread.

#ifndef KTSTR_GUEST_REAPER_H_
#define KTSTR_GUEST_REAPER_H_

#include <sys/types.h>

#include <map>
#include <optional>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::guest {

struct ChildEnd {
  int code = 0;  // Valid when signal == 0.
  int signal = 0;
};

class Reaper {
 public:
  // Blocks SIGCHLD in this process for good (children start with it unblocked, see ResetSignals).
  static absl::StatusOr<Reaper> Make();

  int fd() const { return fd_.get(); }  // Readable when children may have ended.
  // Keeps the end of `pid` for Take; Reap forgets the ends of orphans.
  void Watch(pid_t pid) { watched_[pid] = std::nullopt; }
  void Reap();
  // Sends a signal to a watched process that has not been reaped, and never to another process that
  // has got its pid since. `group`: to its process group, while the process itself is there.
  void Signal(pid_t pid, int signal, bool group = false) const;
  // How `pid` ended; nullopt while it runs. Returns an end once.
  std::optional<ChildEnd> Take(pid_t pid);

 private:
  explicit Reaper(base::UniqueFd fd) : fd_(std::move(fd)) {}
  base::UniqueFd fd_;
  std::map<pid_t, std::optional<ChildEnd>> watched_;
};

// Every fork of the agent calls this first: sets default dispositions, and a signal mask that is
// empty but for `keep_blocked` (0: none).
void ResetSignals(int keep_blocked = 0);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_REAPER_H_
