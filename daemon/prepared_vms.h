// SPDX-License-Identifier: Apache-2.0
//
// Machines restored ahead: each stands still where its snapshot was taken, in a ktstr-vm process
// that waits for a run, so that the next run of the same machine starts with a message. A machine
// that has run and went back to its snapshot (VmRun.rewind) waits here too, for runs of the same
// user alone.
//
// Bounded in number. A new machine replaces one of the user who has the most of them, the new one
// counted: of these, the one that was wanted longest ago. So a user who wants many machines
// replaces their own.
//
// Any thread. One thread of the object's own starts the processes and lives as long as they do (a
// child is bound to the thread that started it).

#ifndef KTSTR_DAEMON_PREPARED_VMS_H_
#define KTSTR_DAEMON_PREPARED_VMS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "daemon/vm_child.h"

namespace ktstr::daemon {

class PreparedVms {
 public:
  // Starts a ktstr-vm that restores a machine. Called on the object's thread.
  using Starter = std::function<absl::StatusOr<VmProcess>()>;

  // At most `capacity` machines wait; 0: none, ever. One that has run waits for `patience`.
  explicit PreparedVms(size_t capacity, absl::Duration patience = absl::Minutes(10));
  ~PreparedVms();  // Ends them all.

  // A machine with this name, if one waits: one that has run for this user, else one that has never
  // run. Blocks while that machine starts, which takes a spawn and a message.
  std::optional<VmProcess> Take(const std::string& name, uid_t uid) ABSL_LOCKS_EXCLUDED(mutex_);
  // Asks for such a machine for the next run. `start` is kept as long as the machine is.
  void Want(const std::string& name, uid_t uid, Starter start) ABSL_LOCKS_EXCLUDED(mutex_);
  // Keeps a machine that has run for this user (VmResult.rewound). The thread that started its
  // process must live as long as the object.
  void Put(const std::string& name, uid_t uid, VmProcess vm) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the machine: its snapshot is unusable.
  void Drop(const std::string& name) ABSL_LOCKS_EXCLUDED(mutex_);
  void DropAll() ABSL_LOCKS_EXCLUDED(mutex_);
  // How many machines wait. Blocks until all that are wanted have started.
  size_t CountWaiting() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Place {
    uint64_t id = 0;
    std::string name;
    uid_t uid = 0;
    Starter start;
    bool starting = false;
    bool has_run = false;                             // For `uid`.
    std::optional<VmProcess> vm;                      // Unset: not started yet.
    absl::Duration until = absl::InfiniteDuration();  // Monotonic.
  };
  void Loop();
  // The next starter that is due, with its place's id; nullopt at the end.
  std::optional<std::pair<uint64_t, Starter>> NextDue() ABSL_LOCKS_EXCLUDED(mutex_);
  // The place from which a run of this user would take its machine; end(): none.
  std::list<Place>::iterator Find(const std::string& name, uid_t uid)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MakeRoom(uid_t uid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends those that have waited for long enough. Returns how long the next one may still wait.
  absl::Duration EndOverdue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t capacity_;
  const absl::Duration patience_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::list<Place> places_ ABSL_GUARDED_BY(mutex_);  // Wanted last first.
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_PREPARED_VMS_H_
