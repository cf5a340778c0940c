// SPDX-License-Identifier: Apache-2.0
//
// Runs over a daemon: submit, follow with a cursor, connect again when the connection is lost,
// cancel, leave. Knows nothing of terminals; what happens is told to an observer.
//
// Threads: one thread per run in flight, made here; public functions from any thread. Observer
// calls come from those threads, one at a time, and without a lock that the public functions take.

#ifndef KTSTR_CLIENT_RUN_FLOW_H_
#define KTSTR_CLIENT_RUN_FLOW_H_

#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "client/connect.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::client {

class RunObserver {
 public:
  virtual ~RunObserver() = default;
  // `index`: the place of the run's spec. Not called for runs that existed before.
  virtual void Submitted(size_t index, const std::string& run_id) = 0;
  virtual void Event(const std::string& run_id, const v1::RunEvent& event) = 0;
  virtual void Finished(const v1::RunRecord& record) = 0;
  // The run could not be submitted or followed; `run_id` is empty when it was not accepted.
  virtual void Failed(const std::string& run_id, const absl::Status& status) = 0;
  // The connection is lost; another attempt follows.
  virtual void Reconnecting(const std::string& run_id, const absl::Status& why) = 0;
};

struct RunFlowOptions {
  size_t in_flight = 16;  // Runs submitted and not ended.
  // Attempts to connect again without an event in between, and the pauses between them (doubling).
  int max_reconnects = 8;
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(5);
};

class RunFlow {
 public:
  RunFlow(Session* session, RunObserver* observer, const RunFlowOptions& options)
      : session_(session), observer_(observer), options_(options) {}
  ~RunFlow();  // Leave(), then waits for the threads.

  // Once: start the runs of these specs, in order; or follow runs that exist.
  void Submit(std::vector<v1::RunSpec> specs);
  // The same with specs made as they are wanted: number 0 to `count` - 1, each once, any thread.
  void Submit(size_t count, std::function<v1::RunSpec(size_t)> make);
  void Follow(std::vector<std::string> run_ids);

  // Every run has ended, failed, or been left.
  bool done() const;
  // An eventfd, readable when done() became true.
  int done_fd() const { return done_fd_.get(); }

  // Ends the runs in flight and drops those not yet submitted; records still come. Does not wait.
  // By the thread that started the runs.
  void Cancel(const std::string& reason);
  // Stops following at once. Runs that the daemon has go on as their spec says.
  void Leave();

 private:
  void Start();
  void Work();
  // Takes the next thing to do; false when there is none.
  bool Take(size_t* index);
  void One(size_t index);
  absl::StatusOr<std::string> SubmitOne(const v1::RunSpec& spec);
  void FollowOne(const std::string& run_id);
  // Reads one stream. `cursor` moves with each event; true when the record came.
  absl::StatusOr<bool> Stream(Connection* connection, const std::string& run_id, uint64_t* cursor);
  void CancelOne(const std::string& run_id, const std::string& reason);
  class Call;
  // False when the flow was left meanwhile.
  bool Pause(absl::Duration backoff);
  bool left() const;

  Session* const session_;
  RunObserver* const observer_;
  const RunFlowOptions options_;
  base::UniqueFd done_fd_;
  // Set before threads start. Without `make_` the runs exist and are in `followed_`.
  size_t count_ = 0;
  std::function<v1::RunSpec(size_t)> make_;
  std::vector<std::string> followed_;
  std::vector<std::thread> threads_;

  base::Mutex observing_;  // One observer call at a time.
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::string cancel_reason_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> in_flight_ ABSL_GUARDED_BY(mutex_);
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_RUN_FLOW_H_
