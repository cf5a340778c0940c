// SPDX-License-Identifier: Apache-2.0
//
// Reports the processes that the guest's kernel kills because memory is used up. One thread.

#ifndef KTSTR_GUEST_OOM_WATCHER_H_
#define KTSTR_GUEST_OOM_WATCHER_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "guest/kmsg.h"
#include "guest/reporter.h"
#include "ktstr/v1/observation.pb.h"

namespace ktstr::guest {

// Name, pid and resident memory of a process that the kernel has killed, from a line of its log:
//   Out of memory: Killed process 123 (x) total-vm:9kB, anon-rss:8kB, file-rss:7kB, shmem-rss:0kB,
//   …
// nullopt for any other line, also when only a cgroup's memory was used up.
std::optional<v1::OutOfMemory> ParseOomKill(std::string_view line);

class OomWatcher {
 public:
  // Follows the log `kmsg` from its end. `reporter` outlives the watcher.
  OomWatcher(const std::string& kmsg, Reporter* reporter) : kmsg_(kmsg), reporter_(reporter) {}
  // Never blocks. `scheduler`: pid of the scheduler under test, -1: none.
  void Poll(pid_t scheduler, bool during_steps);

 private:
  KmsgReader kmsg_;
  Reporter* const reporter_;
  int reported_ = 0;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_OOM_WATCHER_H_
