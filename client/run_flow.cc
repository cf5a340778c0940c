// SPDX-License-Identifier: Apache-2.0
#include "client/run_flow.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "client/call.h"
#include "scenario/reproduce.h"

namespace ktstr::client {
namespace {

// True for errors of the connection, which are no errors of the daemon.
bool ConnectionLost(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace

// A call that Leave() ends, with a deadline unless it is the stream.
class RunFlow::Call {
 public:
  Call(RunFlow* flow, std::optional<absl::Duration> timeout) : flow_(flow) {
    if (timeout.has_value()) {
      context_.set_deadline(std::chrono::system_clock::now() +
                            absl::ToChronoMicroseconds(*timeout));
    }
    base::MutexLock lock(&flow_->mutex_);
    if (flow_->left_) context_.TryCancel();
    flow_->contexts_.insert(&context_);
  }
  ~Call() {
    base::MutexLock lock(&flow_->mutex_);
    flow_->contexts_.erase(&context_);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  grpc::ClientContext* context() { return &context_; }

 private:
  RunFlow* const flow_;
  grpc::ClientContext context_;
};

RunFlow::~RunFlow() {
  Leave();
  for (std::thread& thread : threads_) thread.join();
}

void RunFlow::Submit(std::vector<v1::RunSpec> specs) {
  const auto shared = std::make_shared<std::vector<v1::RunSpec>>(std::move(specs));
  Submit(shared->size(), [shared](size_t index) { return (*shared)[index]; });
}

void RunFlow::Submit(size_t count, std::function<std::optional<v1::RunSpec>(size_t)> make) {
  count_ = count;
  make_ = std::move(make);
  Start();
}

void RunFlow::Follow(std::vector<std::string> run_ids) {
  {
    base::MutexLock lock(&mutex_);
    for (const std::string& run_id : run_ids) runs_[run_id];
  }
  Start();
}

void RunFlow::Start() {
  done_fd_.Reset(eventfd(0, EFD_CLOEXEC));
  KTSTR_CHECK(done_fd_.valid()) << "eventfd";
  {
    base::MutexLock lock(&mutex_);
    started_ = true;
    submitting_ = make_ != nullptr;
    running_ = submitting_ ? 2 : 1;
  }
  if (make_ != nullptr) threads_.emplace_back(&RunFlow::SubmitLoop, this);
  threads_.emplace_back(&RunFlow::WatchLoop, this);
}

bool RunFlow::done() const {
  base::MutexLock lock(&mutex_);
  return started_ && running_ == 0;
}

bool RunFlow::left() const {
  base::MutexLock lock(&mutex_);
  return left_;
}

void RunFlow::ThreadEnds() {
  base::MutexLock lock(&mutex_);
  if (--running_ > 0) return;
  const uint64_t one = 1;
  const ssize_t written = write(done_fd_.get(), &one, sizeof(one));
  KTSTR_CHECK(written == sizeof(one)) << "eventfd";
}

bool RunFlow::Take(size_t* index) {
  base::MutexLock lock(&mutex_);
  while (!left_ && !cancelled_ && next_ < count_ &&
         runs_.size() >= std::max<size_t>(options_.in_flight, 1)) {
    changed_.Wait(&mutex_);
  }
  if (left_ || cancelled_ || next_ >= count_) return false;
  *index = next_++;
  return true;
}

void RunFlow::SubmitLoop() {
  size_t index;
  while (Take(&index)) {
    const std::optional<v1::RunSpec> spec = make_(index);
    if (!spec.has_value()) break;
    SubmitOne(index, *spec);
  }
  {
    base::MutexLock lock(&mutex_);
    submitting_ = false;
    // The stream would wait for runs that nobody submits any more.
    if (runs_.empty() && stream_context_ != nullptr) stream_context_->TryCancel();
    changed_.SignalAll();
  }
  ThreadEnds();
}

void RunFlow::SubmitOne(size_t index, const v1::RunSpec& spec) {
  v1::RunRecord record;
  const absl::StatusOr<v1::SubmitRunResponse> submitted = SubmitOrKnow(spec, &record);
  if (!submitted.ok() && left()) return;
  const std::string run_id = submitted.ok() ? submitted->run_id() : "";
  {
    base::MutexLock lock(&observing_);
    if (!submitted.ok()) {
      observer_->Failed("", submitted.status());
    } else if (submitted->known()) {
      observer_->Known(index, record);
    } else {
      observer_->Submitted(index, run_id);
    }
  }
  if (!submitted.ok() || submitted->known()) return;
  std::string cancel_reason;
  {
    base::MutexLock lock(&mutex_);
    runs_[run_id];
    changed_.SignalAll();
    // Cancel() came while the run was being submitted.
    if (cancelled_) cancel_reason = cancel_reason_;
  }
  Subscribe(run_id);
  if (!cancel_reason.empty()) CancelRuns({run_id}, cancel_reason);
}

absl::StatusOr<v1::SubmitRunResponse> RunFlow::SubmitOrKnow(const v1::RunSpec& spec,
                                                            v1::RunRecord* known) {
  KTSTR_ASSIGN_OR_RETURN(v1::SubmitRunResponse submitted, CallSubmit(spec, options_.reuse));
  if (!submitted.known()) return submitted;
  v1::GetRunResponse run;
  const absl::Status status = CallGet(submitted.run_id(), &run);
  // The daemon has just removed it to make room.
  if (absl::IsNotFound(status)) return CallSubmit(spec, /*reuse=*/false);
  KTSTR_RETURN_IF_ERROR(status);
  *known = std::move(*run.mutable_record());
  known->set_known_from(submitted.run_id());
  // The earlier run may have had another command line, and come from elsewhere.
  scenario::SetReproduction(spec.reproduction(), known);
  if (!spec.project_commit().empty()) known->set_project_commit(spec.project_commit());
  if (!spec.run_source().empty()) known->set_run_source(spec.run_source());
  return submitted;
}

absl::Status RunFlow::CallGet(const std::string& run_id, v1::GetRunResponse* response) {
  Call call(this, options_.submit_timeout);
  v1::GetRunRequest request;
  request.set_run_id(run_id);
  const auto reader = session_->connection()->stub()->GetRun(call.context(), request);
  return ReadPieces(
      call.context(), reader.get(), [] {}, FromGrpc, response);
}

absl::StatusOr<v1::SubmitRunResponse> RunFlow::CallSubmit(const v1::RunSpec& spec, bool reuse) {
  // Not sent again after a lost connection: the daemon may have accepted the run.
  Call call(this, options_.submit_timeout);
  v1::SubmitRunRequest request;
  *request.mutable_spec() = spec;
  request.set_reuse(reuse);
  v1::SubmitRunResponse response;
  KTSTR_RETURN_IF_ERROR(
      FromGrpc(session_->connection()->stub()->SubmitRun(call.context(), request, &response)));
  return response;
}

bool RunFlow::AllEnded() const {
  base::MutexLock lock(&mutex_);
  return runs_.empty() && !submitting_;
}

std::set<std::string> RunFlow::InFlight() const {
  std::set<std::string> runs;
  base::MutexLock lock(&mutex_);
  for (const auto& [run_id, run] : runs_) runs.insert(run_id);
  return runs;
}

bool RunFlow::WaitForRuns() {
  base::MutexLock lock(&mutex_);
  while (!left_ && submitting_ && runs_.empty()) changed_.Wait(&mutex_);
  return !left_ && !runs_.empty();
}

void RunFlow::WatchLoop() {
  int attempts = 0;
  absl::Duration backoff = options_.first_backoff;
  while (WaitForRuns()) {
    const std::shared_ptr<Connection> connection = session_->connection();
    bool progressed = false;
    absl::Status status = Follow(connection.get(), &progressed);
    if (status.ok()) continue;
    if (left()) break;
    if (progressed) {
      attempts = 0;
      backoff = options_.first_backoff;
    }
    if (ConnectionLost(status) && attempts < options_.max_reconnects) {
      ++attempts;
      status = Reconnect(connection, status, backoff);
      backoff = std::min(backoff * 2, options_.max_backoff);
    }
    if (left()) break;
    if (!status.ok()) FailAll(status);
  }
  ThreadEnds();
}

absl::Status RunFlow::Reconnect(const std::shared_ptr<Connection>& lost, const absl::Status& why,
                                absl::Duration backoff) {
  {
    base::MutexLock lock(&observing_);
    observer_->Reconnecting(why);
  }
  const absl::Duration end = base::RealClock()->Monotonic() + backoff;
  {
    base::MutexLock lock(&mutex_);
    while (!left_) {
      const absl::Duration rest = end - base::RealClock()->Monotonic();
      if (rest <= absl::ZeroDuration()) break;
      changed_.WaitFor(&mutex_, rest);
    }
    if (left_) return absl::OkStatus();
  }
  const absl::Status again = session_->Reconnect(lost);
  // When this failed, the next attempt fails on the same lost connection.
  if (!again.ok()) return ConnectionLost(again) ? absl::OkStatus() : again;
  std::string reason;
  {
    base::MutexLock lock(&mutex_);
    if (cancelled_) reason = cancel_reason_;
  }
  // The cancellation may have been lost with the connection.
  if (!reason.empty()) CancelRuns(InFlight(), reason);
  return absl::OkStatus();
}

absl::Status RunFlow::Follow(Connection* connection, bool* progressed) {
  Call call(this, std::nullopt);
  {
    base::MutexLock lock(&mutex_);
    stream_context_ = call.context();
  }
  const std::unique_ptr<Stream> stream = connection->stub()->WatchRuns(call.context());
  Open(stream.get());
  const absl::Status status = Read(stream.get(), progressed);
  Close();
  pieces_.clear();
  // Drops what an unfinished stream still has.
  call.context()->TryCancel();
  absl::Status ended = FromGrpc(stream->Finish());
  KTSTR_RETURN_IF_ERROR(status);
  if (AllEnded()) return absl::OkStatus();
  if (ended.ok() || absl::IsCancelled(ended)) {
    return absl::UnavailableError("the daemon ended the stream before the records came");
  }
  return ended;
}

absl::Status RunFlow::Read(Stream* stream, bool* progressed) {
  v1::WatchRunsResponse response;
  while (!AllEnded() && stream->Read(&response)) {
    KTSTR_RETURN_IF_ERROR(Handle(response, progressed));
  }
  return absl::OkStatus();
}

void RunFlow::Open(Stream* stream) {
  base::MutexLock writing(&writing_);
  stream_ = stream;
  std::vector<v1::WatchRunsRequest> requests;
  {
    base::MutexLock lock(&mutex_);
    for (auto& [run_id, run] : runs_) {
      run.subscribed = true;
      v1::WatchRunsRequest& request = requests.emplace_back();
      request.set_run_id(run_id);
      request.set_cursor(run.cursor);
    }
  }
  // The reader of the stream reports a write that fails.
  for (const v1::WatchRunsRequest& request : requests) {
    if (!stream->Write(request)) return;
  }
}

void RunFlow::Close() {
  base::MutexLock writing(&writing_);
  stream_ = nullptr;
  base::MutexLock lock(&mutex_);
  stream_context_ = nullptr;
  for (auto& [run_id, run] : runs_) run.subscribed = false;
}

void RunFlow::Subscribe(const std::string& run_id) {
  base::MutexLock writing(&writing_);
  if (stream_ == nullptr) return;  // The next stream begins with every run in flight.
  {
    base::MutexLock lock(&mutex_);
    const auto run = runs_.find(run_id);
    if (run == runs_.end() || std::exchange(run->second.subscribed, true)) return;
  }
  v1::WatchRunsRequest request;
  request.set_run_id(run_id);
  stream_->Write(request);
}

absl::Status RunFlow::Handle(const v1::WatchRunsResponse& response, bool* progressed) {
  const std::string& run_id = response.run_id();
  if (response.has_failure()) {
    absl::Status status(static_cast<absl::StatusCode>(response.failure().code()),
                        response.failure().message());
    if (ConnectionLost(status)) return status;
    Fail(run_id, status);
    return absl::OkStatus();
  }
  if (response.has_event_piece()) return HandlePiece(run_id, response.event_piece(), progressed);
  HandleEvent(run_id, response.event(), progressed);
  return absl::OkStatus();
}

absl::Status RunFlow::HandlePiece(const std::string& run_id, const v1::Piece& piece,
                                  bool* progressed) {
  v1::RunEvent event;
  KTSTR_ASSIGN_OR_RETURN(const bool complete, pieces_[run_id].Add(piece, &event));
  if (!complete) return absl::OkStatus();
  pieces_.erase(run_id);
  HandleEvent(run_id, event, progressed);
  return absl::OkStatus();
}

void RunFlow::HandleEvent(const std::string& run_id, const v1::RunEvent& event, bool* progressed) {
  const uint64_t number = event.number();
  uint64_t due;
  {
    base::MutexLock lock(&mutex_);
    const auto run = runs_.find(run_id);
    if (run == runs_.end()) return;
    due = run->second.cursor;
    if (number == due) ++run->second.cursor;
  }
  if (number != due) {
    Fail(run_id, absl::InternalError(
                     absl::StrCat("the daemon sent event ", number, " where ", due, " was due")));
    return;
  }
  *progressed = true;
  {
    base::MutexLock lock(&observing_);
    if (!event.has_finished()) {
      observer_->Event(run_id, event);
      return;
    }
    observer_->Finished(event.finished());
  }
  base::MutexLock lock(&mutex_);
  runs_.erase(run_id);
  changed_.SignalAll();
}

void RunFlow::Fail(const std::string& run_id, const absl::Status& status) {
  {
    base::MutexLock lock(&mutex_);
    if (runs_.erase(run_id) == 0) return;
    changed_.SignalAll();
  }
  base::MutexLock lock(&observing_);
  observer_->Failed(run_id, base::Annotate(status, absl::StrCat("run ", run_id)));
}

void RunFlow::FailAll(const absl::Status& status) {
  for (const std::string& run_id : InFlight()) Fail(run_id, status);
}

void RunFlow::CancelRuns(const std::set<std::string>& runs, const std::string& reason) {
  for (const std::string& run_id : runs) {
    Call call(this, options_.cancel_timeout);
    v1::CancelRunRequest request;
    request.set_run_id(run_id);
    request.set_reason(reason);
    v1::CancelRunResponse response;
    const absl::Status status =
        FromGrpc(session_->connection()->stub()->CancelRun(call.context(), request, &response));
    if (left()) return;
    // Reconnect() sends the rest again.
    if (absl::IsUnavailable(status)) return;
    if (status.ok()) continue;
    base::MutexLock lock(&observing_);
    observer_->Failed(run_id, base::Annotate(status, absl::StrCat("cancel of run ", run_id)));
    // A daemon that does not respond does not respond for the next run either.
    if (absl::IsDeadlineExceeded(status)) return;
  }
}

void RunFlow::Cancel(const std::string& reason) {
  {
    base::MutexLock lock(&mutex_);
    if (cancelled_ || left_) return;
    cancelled_ = true;
    cancel_reason_ = reason;
    changed_.SignalAll();
  }
  // On a thread of its own, so that the caller can still leave when the daemon does not respond.
  threads_.emplace_back([this, runs = InFlight(), reason] { CancelRuns(runs, reason); });
}

void RunFlow::Leave() {
  base::MutexLock lock(&mutex_);
  left_ = true;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
  changed_.SignalAll();
}

}  // namespace ktstr::client
