// SPDX-License-Identifier: Apache-2.0
//
// Runs over a daemon: submit, follow with a cursor, connect again when the connection is lost,
// cancel, leave. Knows nothing of terminals; reports what happens to an observer.
//
// RunFlow starts at most three threads, however many runs: one submits, one reads the stream that
// follows all runs, and one cancels. Public functions from any thread. These threads call the
// observer, one call at a time, without a lock that the public functions take.

#ifndef KTSTR_CLIENT_RUN_FLOW_H_
#define KTSTR_CLIENT_RUN_FLOW_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
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
#include "client/pieces.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::client {

class RunObserver {
 public:
  virtual ~RunObserver() = default;
  // `index`: the place of the run's spec. Not called for Follow().
  virtual void Submitted(size_t index, const std::string& run_id) = 0;
  virtual void Event(const std::string& run_id, const v1::RunEvent& event) = 0;
  virtual void Finished(const v1::RunRecord& record) = 0;
  // In place of all these: the record of an earlier run, with its `known_from`.
  virtual void Known(size_t index, const v1::RunRecord& record) = 0;
  // The run could not be submitted, followed or cancelled. `run_id` is empty when the daemon did
  // not accept the run.
  virtual void Failed(const std::string& run_id, const absl::Status& status) = 0;
  // The connection is lost; another attempt follows.
  virtual void Reconnecting(const absl::Status& why) = 0;
};

struct RunFlowOptions {
  size_t in_flight = 16;  // Runs submitted and not ended.
  bool reuse = false;     // SubmitRunRequest.reuse
  // Attempts to connect again with no event in between, and the (doubling) pauses before them.
  int max_reconnects = 8;
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(5);
  // A call without a response for this long fails. The daemon may check the files of a kernel
  // during a submit.
  absl::Duration submit_timeout = absl::Minutes(2);
  absl::Duration cancel_timeout = absl::Seconds(30);
};

class RunFlow {
 public:
  RunFlow(Session* session, RunObserver* observer, const RunFlowOptions& options)
      : session_(session), observer_(observer), options_(options) {}
  ~RunFlow();  // Leave(), then waits for the threads.

  // Once: start the runs of these specs, in order; or follow runs that exist.
  void Submit(std::vector<v1::RunSpec> specs);
  // The same with specs made on demand: number 0 to `count` - 1, each once, on any thread.
  // nullopt: no more are wanted.
  void Submit(size_t count, std::function<std::optional<v1::RunSpec>(size_t)> make);
  void Follow(std::vector<std::string> run_ids);

  // Every run has ended or failed, or Leave() was called.
  bool done() const;
  // An eventfd, readable once done() is true.
  int done_fd() const { return done_fd_.get(); }

  // Cancels the runs in flight and drops those not yet submitted; records still come. Does not
  // wait. On the thread that called Submit() or Follow().
  void Cancel(const std::string& reason);
  // Stops following at once. Whether the runs go on depends on their spec.
  void Leave();

 private:
  class Call;
  // A run in flight.
  struct Followed {
    uint64_t cursor = 0;      // The next event that is due.
    bool subscribed = false;  // The open stream has been asked for the run.
  };
  using Stream = grpc::ClientReaderWriterInterface<v1::WatchRunsRequest, v1::WatchRunsResponse>;

  void Start();
  void SubmitLoop();
  void WatchLoop();
  void ThreadEnds();
  // Waits for room and takes the next spec to submit; false when there is none.
  bool Take(size_t* index);
  void SubmitOne(size_t index, const v1::RunSpec& spec);
  // The response to a submit; `*known` gets the record of a known run.
  absl::StatusOr<v1::SubmitRunResponse> SubmitOrKnow(const v1::RunSpec& spec, v1::RunRecord* known);
  absl::StatusOr<v1::SubmitRunResponse> CallSubmit(const v1::RunSpec& spec, bool reuse);
  absl::Status CallGet(const std::string& run_id, v1::GetRunResponse* response);
  // Waits until there is a run to follow; false when there will be none.
  bool WaitForRuns();
  // Reads one stream until all runs have ended, or to an error. `*progressed`: an event came.
  absl::Status Follow(Connection* connection, bool* progressed);
  absl::Status Read(Stream* stream, bool* progressed);
  // An error is one of the whole stream.
  absl::Status Handle(const v1::WatchRunsResponse& response, bool* progressed);
  absl::Status HandlePiece(const std::string& run_id, const v1::Piece& piece, bool* progressed);
  void HandleEvent(const std::string& run_id, const v1::RunEvent& event, bool* progressed);
  void Open(Stream* stream);
  void Close();
  void Subscribe(const std::string& run_id);
  // Connects again; an error is final.
  absl::Status Reconnect(const std::shared_ptr<Connection>& lost, const absl::Status& why,
                         absl::Duration backoff);
  void Fail(const std::string& run_id, const absl::Status& status);
  void FailAll(const absl::Status& status);
  void CancelRuns(const std::set<std::string>& runs, const std::string& reason);
  std::set<std::string> InFlight() const;
  // Nothing more will be submitted, and every run has ended.
  bool AllEnded() const;
  bool left() const;

  Session* const session_;
  RunObserver* const observer_;
  const RunFlowOptions options_;
  base::UniqueFd done_fd_;
  // Set before threads start. `make_` is empty for Follow().
  size_t count_ = 0;
  std::function<std::optional<v1::RunSpec>(size_t)> make_;
  std::vector<std::thread> threads_;
  std::map<std::string, Pieces> pieces_;  // Events that come in pieces; of the reader's thread.

  base::Mutex observing_;  // One observer call at a time.
  base::Mutex writing_;    // One writer of the stream at a time; taken before `mutex_`.
  Stream* stream_ ABSL_GUARDED_BY(writing_) = nullptr;
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool submitting_ ABSL_GUARDED_BY(mutex_) = false;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;  // Threads that submit or follow.
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::string cancel_reason_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Followed> runs_ ABSL_GUARDED_BY(mutex_);
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext* stream_context_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_RUN_FLOW_H_
