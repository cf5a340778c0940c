// SPDX-License-Identifier: Apache-2.0
//
// The queue and the life of every run: durable submit, first-in first-out start on a fixed number
// of worker threads, events for watchers, cancellation, restart. Knows nothing of gRPC and nothing
// of virtual machines (RunExecutor does).
//
// Threads: public functions from any thread. One worker thread per VM slot lives as long as the
// manager: a VM process is bound to the thread that started it (PR_SET_PDEATHSIG). One more thread
// cancels runs that nobody waits for any more, ends cancelled runs of the queue, and tries again to
// store ends that could not be stored.

#ifndef KTSTR_DAEMON_RUN_MANAGER_H_
#define KTSTR_DAEMON_RUN_MANAGER_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "daemon/caller.h"
#include "daemon/pages.h"
#include "daemon/record_files.h"
#include "daemon/run_executor.h"
#include "daemon/run_store.h"

namespace ktstr::daemon {

struct RunManagerOptions {
  uint32_t slots = 1;                      // VMs at once.
  uint32_t max_queued = 10000;             // Per user.
  uint32_t max_kept = 10000;               // Finished runs per user.
  uint64_t max_bytes = uint64_t{4} << 30;  // Stored data of runs, per user.
  absl::Duration unwatched_grace = absl::Seconds(5);
  absl::Duration restart_grace = absl::Seconds(60);
  absl::Duration record_retry = absl::Seconds(5);  // For an end that could not be stored.
  // Until the next try when there are too few descriptors to start a run.
  absl::Duration descriptor_retry = absl::Seconds(1);
  const base::Clock* clock = base::RealClock();
};

class RunManager {
 public:
  // Takes up what an earlier daemon left: keeps queued runs in the queue, ends running ones as
  // INTERRUPTED (later, when the disk is full), writes record files that are due. `store`,
  // `executor` and `files` outlive the manager.
  static absl::StatusOr<std::unique_ptr<RunManager>> Create(const RunManagerOptions& options,
                                                            RunStore* store, RunExecutor* executor,
                                                            const RecordFiles* files);
  ~RunManager();  // Stop().

  // A stream of one run's events for one reader thread. While a Watch exists, the run counts as
  // watched.
  class Watch {
   public:
    ~Watch();
    // Events from the cursor on, in order, each once; empty when none came within `timeout`.
    // Unavailable when the daemon ends; another error while the run's end is not stored.
    absl::StatusOr<std::vector<v1::RunEvent>> Next(absl::Duration timeout);
    // No more events will come: Next() has returned the `finished` event.
    bool done() const { return done_; }

   private:
    friend class RunManager;
    friend class WatchSet;
    Watch(RunManager* manager, int64_t number, uint64_t cursor)
        : manager_(manager), number_(number), cursor_(cursor) {}
    RunManager* const manager_;
    const int64_t number_;
    uint64_t cursor_;
    bool done_ = false;
  };

  // Events of any number of runs for one reader thread. While a run is in the set, it counts as
  // watched. The manager outlives the set.
  class WatchSet {
   public:
    explicit WatchSet(RunManager* manager) : manager_(manager) {}

    // Any thread. For a run that cannot be followed, Next() returns a step with the reason.
    void Add(const Caller& caller, const std::string& run_id, uint64_t cursor);
    // Any thread: no more runs will be added.
    void Close();

    // New events of one run. After an error the set no longer follows the run.
    struct Step {
      std::string run_id;
      absl::StatusOr<std::vector<v1::RunEvent>> events;
    };
    // By the reader. Empty when nothing came within `timeout`. Unavailable when the daemon ends and
    // no run is left; ResourceExhausted when more runs are refused than are read.
    absl::StatusOr<std::vector<Step>> Next(absl::Duration timeout);
    // By the reader: closed, and every run has ended.
    bool done() const;

   private:
    // The watches whose Next() returns at once.
    std::vector<Watch*> Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(manager_->mutex_);

    RunManager* const manager_;
    mutable base::Mutex mutex_;  // Taken under the manager's, never the other way round.
    bool closed_ ABSL_GUARDED_BY(mutex_) = false;
    std::map<std::string, std::unique_ptr<Watch>> watches_ ABSL_GUARDED_BY(mutex_);
    std::vector<Step> refused_ ABSL_GUARDED_BY(mutex_);
    absl::Status broken_ ABSL_GUARDED_BY(mutex_);  // Ends the stream.
  };

  // `spec` has passed CheckRunSpec. ResourceExhausted when the user's queue is full; also what
  // RunExecutor::Claim reports.
  absl::StatusOr<std::string> Submit(const Caller& caller, const v1::RunSpec& spec);
  // The manager outlives the Watch. NotFound also for another user's run.
  absl::StatusOr<std::unique_ptr<Watch>> OpenWatch(const Caller& caller, const std::string& run_id,
                                                   uint64_t cursor);
  absl::Status Cancel(const Caller& caller, const std::string& run_id, const std::string& reason);
  // Newest first. A page's token is the id of its last run.
  absl::StatusOr<Page<v1::RunSummary>> List(const Caller& caller, int32_t page_size,
                                            const std::string& page_token);
  absl::StatusOr<v1::GetRunResponse> Get(const Caller& caller, const v1::GetRunRequest& request);

  // How many connections of `uid` are open now: they keep runs alive that nobody has watched yet.
  void SetConnections(uid_t uid, int count);
  // No run is queued or running.
  bool Idle();
  // Running runs end as INTERRUPTED, queued ones stay in the store, watches get Unavailable.
  // Returns when all threads ended.
  void Stop();

 private:
  class Reporter;
  struct ActiveRun {
    uid_t uid = 0;
    bool running = false;
    uint64_t events = 0;
    int watchers = 0;
    bool watched_ever = false;
    bool cancel_when_unwatched = false;
    // Monotonic; infinite: somebody waits.
    absl::Duration unwatched_since = absl::InfiniteDuration();
    absl::Duration grace;
    std::unique_ptr<RunClaim> claim;  // Null: it could not be taken again after a restart.
    std::optional<StopRequest> stop;
    base::UniqueFd stop_fd;  // Valid while it runs.
    absl::Status broken;     // Its events can no longer be stored.
  };
  struct Unrecorded {
    uid_t uid;
    RunOutcome outcome;
    int64_t ended_ms;
    absl::Status why;     // What watchers get.
    absl::Duration next;  // Monotonic: the time of the next try.
  };

  RunManager(const RunManagerOptions& options, RunStore* store, RunExecutor* executor,
             const RecordFiles* files)
      : options_(options), store_(store), executor_(executor), files_(files) {}
  absl::Status TakeUp();
  // `submitting`: bytes of the user's submits under way, this one's too.
  absl::StatusOr<int64_t> StoreSubmit(const Caller& caller, const v1::RunSpec& spec,
                                      uint64_t submitting, const std::string& detail);
  ActiveRun MakeActive(uid_t uid, const v1::RunSpec& spec) const;
  void WorkerLoop();
  // Takes the next run out of the queue; blocks. nullopt: the manager stops.
  std::optional<int64_t> TakeNext() ABSL_LOCKS_EXCLUDED(mutex_);
  void HousekeepingLoop();
  // Returns the time until the next run is due; infinite when none is.
  absl::Duration StopUnwatched() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Work(int64_t number);
  void FinishRun(int64_t number, uid_t uid, RunOutcome outcome);
  // Record and record file, in the order of record_files.h.
  absl::Status StoreEnd(int64_t number, const RunOutcome& outcome, int64_t ended_ms);
  void Publish(int64_t number, StagedRecord* staged);
  // Writes the record files that are due.
  void FileAgain();
  // Tries again to store one end; by one thread at a time.
  void RecordAgain(int64_t number);
  void Prune(uid_t uid, int64_t finished);  // Old runs beyond max_kept and max_bytes.
  void Emit(int64_t number, v1::RunEvent event) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t NowMs() const { return absl::ToUnixMillis(options_.clock->Now()); }
  absl::StatusOr<StoredRun> Find(const Caller& caller, const std::string& run_id);
  void StopRun(ActiveRun* run, StopRequest why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateUnwatched(ActiveRun* run) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndWatch(int64_t number);
  std::string QueueDetail() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const RunManagerOptions options_;
  RunStore* const store_;
  RunExecutor* const executor_;
  const RecordFiles* const files_;

  base::Mutex mutex_;
  base::CondVar changed_;  // Queue, events, stop.
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool starved_ ABSL_GUARDED_BY(mutex_) = false;     // Too few descriptors to start the next run.
  std::set<int64_t> queue_ ABSL_GUARDED_BY(mutex_);  // Ascending: first in, first out.
  std::map<int64_t, ActiveRun> active_ ABSL_GUARDED_BY(mutex_);
  // Submits under way: they count, but are not queued yet.
  struct Submitting {
    uint32_t runs = 0;
    uint64_t bytes = 0;
  };
  std::map<uid_t, Submitting> submitting_ ABSL_GUARDED_BY(mutex_);
  std::map<uid_t, int> connections_ ABSL_GUARDED_BY(mutex_);
  // Runs whose end could not be stored (a full disk). The manager tries again as long as it lives.
  std::map<int64_t, Unrecorded> unrecorded_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_RUN_MANAGER_H_
