// SPDX-License-Identifier: Apache-2.0
//
// All workers of a run, from fork to report. Two phases: Add forks a worker, places it in its
// cgroup and sets its nice value while it waits; Release starts all that wait, in an order and at
// times that the seed draws. One thread.

#ifndef KTSTR_GUEST_WORKER_POOL_H_
#define KTSTR_GUEST_WORKER_POOL_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "guest/cgroups.h"
#include "guest/random.h"
#include "guest/reaper.h"
#include "guest/reporter.h"
#include "guest/worker.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

class WorkerPool {
 public:
  // Shared memory for `capacity` workers. The pointers outlive the pool.
  static absl::StatusOr<WorkerPool> Make(uint32_t capacity, const Random* random, Reaper* reaper,
                                         Reporter* reporter);
  WorkerPool(WorkerPool&& other) noexcept;
  WorkerPool& operator=(WorkerPool&&) = delete;
  ~WorkerPool();  // Unmaps; does not touch processes.

  // Phase one, for all workers of `work`, which then wait. After an error, those already forked
  // stay until Kill.
  absl::Status Add(const CgroupTree& cgroups, const std::string& cgroup, const v1::GuestWork& work);
  // Phase two, at `at_ns` of the scenario: each starts up to `jitter_ns` from now.
  void Release(uint64_t jitter_ns, uint64_t at_ns);
  // Ends the loops: the stop time, then SIGUSR1.
  void Stop();
  // Notes which workers have ended; true when all have.
  bool Poll();
  // Marks those that have not ended by now as late in their reports.
  void NoteLate();
  // Sends SIGKILL to those that are left, and does not wait.
  void Kill();
  // One WorkerReport or WorkerLost for each, in order of index. After Stop; `scenario_start_ns` is
  // the first step's begin.
  void ReportAll(uint64_t scenario_start_ns);

  // For single workers while they run (guest/perturber.h); `index` is below size().
  uint32_t size() const { return static_cast<uint32_t>(workers_.size()); }
  bool ended(uint32_t index) const { return workers_[index].ended; }
  const std::string& cgroup(uint32_t index) const { return workers_[index].cgroup; }
  int nice(uint32_t index) const { return workers_[index].nice; }  // As declared.
  absl::Status SetNice(uint32_t index, int nice);
  // Moves it to a cgroup that exists; its report still names its own.
  absl::Status Move(uint32_t index, const CgroupTree& cgroups, const std::string& cgroup);

 private:
  struct Worker {
    pid_t pid;
    std::string cgroup;
    std::string type;
    int nice = 0;
    bool released = false;
    bool ended = false;
    bool late = false;
    ChildEnd end;
  };

  WorkerPool(WorkerSlot* slots, uint32_t capacity, const Random* random, Reaper* reaper,
             Reporter* reporter)
      : slots_(slots), capacity_(capacity), random_(random), reaper_(reaper), reporter_(reporter) {}
  void Start(uint32_t index, uint64_t start_ns);
  void ReportOne(uint32_t index, uint64_t scenario_start_ns);

  WorkerSlot* slots_;
  uint32_t capacity_;
  const Random* random_;
  Reaper* reaper_;
  Reporter* reporter_;
  std::vector<Worker> workers_;
};

// What the agent can run; InvalidArgument for a type that it does not know.
absl::StatusOr<WorkerSpec> WorkerSpecOf(const v1::GuestWork& work);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_WORKER_POOL_H_
