// SPDX-License-Identifier: Apache-2.0
#include "client/run_flow.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace ktstr::client {
namespace {

constexpr std::chrono::seconds kCallTimeout(30);

// Errors of the connection, not answers of the daemon.
bool ConnectionLost(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace

// A call with a deadline, which Leave() ends.
class RunFlow::Call {
 public:
  explicit Call(RunFlow* flow) : flow_(flow) {
    context_.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
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

void RunFlow::Submit(size_t count, std::function<v1::RunSpec(size_t)> make) {
  count_ = count;
  make_ = std::move(make);
  Start();
}

void RunFlow::Follow(std::vector<std::string> run_ids) {
  followed_ = std::move(run_ids);
  count_ = followed_.size();
  Start();
}

void RunFlow::Start() {
  const size_t threads = std::min(count_, std::max<size_t>(options_.in_flight, 1));
  done_fd_.Reset(eventfd(0, EFD_CLOEXEC));
  KTSTR_CHECK(done_fd_.valid()) << "eventfd";
  {
    base::MutexLock lock(&mutex_);
    started_ = true;
    running_ = threads;
  }
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back(&RunFlow::Work, this);
}

bool RunFlow::done() const {
  base::MutexLock lock(&mutex_);
  return started_ && running_ == 0;
}

bool RunFlow::left() const {
  base::MutexLock lock(&mutex_);
  return left_;
}

bool RunFlow::Take(size_t* index) {
  base::MutexLock lock(&mutex_);
  // A cancelled flow submits nothing more; runs to follow exist already, and their records are
  // still wanted.
  if (left_ || (cancelled_ && make_ != nullptr) || next_ >= count_) return false;
  *index = next_++;
  return true;
}

void RunFlow::Work() {
  size_t index;
  while (Take(&index)) One(index);
  base::MutexLock lock(&mutex_);
  if (--running_ == 0) {
    const uint64_t one = 1;
    const ssize_t written = write(done_fd_.get(), &one, sizeof(one));
    KTSTR_CHECK(written == sizeof(one)) << "eventfd";
  }
}

void RunFlow::One(size_t index) {
  std::string run_id;
  if (make_ == nullptr) {
    run_id = followed_[index];
  } else {
    absl::StatusOr<std::string> submitted = SubmitOne(make_(index));
    if (!submitted.ok()) {
      if (left()) return;
      base::MutexLock lock(&observing_);
      observer_->Failed("", submitted.status());
      return;
    }
    run_id = *submitted;
    base::MutexLock lock(&observing_);
    observer_->Submitted(index, run_id);
  }
  std::string cancel_reason;
  {
    base::MutexLock lock(&mutex_);
    in_flight_.insert(run_id);
    // Cancel() came while the run was being submitted.
    if (cancelled_) cancel_reason = cancel_reason_;
  }
  if (!cancel_reason.empty()) CancelOne(run_id, cancel_reason);
  FollowOne(run_id);
  base::MutexLock lock(&mutex_);
  in_flight_.erase(run_id);
}

absl::StatusOr<std::string> RunFlow::SubmitOne(const v1::RunSpec& spec) {
  // Never sent twice: after a lost connection nobody knows whether the first one was accepted.
  Call call(this);
  v1::SubmitRunRequest request;
  *request.mutable_spec() = spec;
  v1::SubmitRunResponse response;
  KTSTR_RETURN_IF_ERROR(
      FromGrpc(session_->connection()->stub()->SubmitRun(call.context(), request, &response)));
  return response.run_id();
}

absl::StatusOr<bool> RunFlow::Stream(Connection* connection, const std::string& run_id,
                                     uint64_t* cursor) {
  grpc::ClientContext context;
  {
    base::MutexLock lock(&mutex_);
    if (left_) return absl::CancelledError("left");
    contexts_.insert(&context);
  }
  v1::WatchRunRequest request;
  request.set_run_id(run_id);
  request.set_cursor(*cursor);
  const auto reader = connection->stub()->WatchRun(&context, request);
  bool finished = false;
  absl::Status order;
  v1::RunEvent event;
  while (!finished && order.ok() && reader->Read(&event)) {
    if (event.number() != *cursor) {
      order = absl::InternalError(absl::StrCat("run ", run_id, ": the daemon sent event ",
                                               event.number(), " where ", *cursor, " was due"));
      context.TryCancel();
      break;
    }
    ++*cursor;
    base::MutexLock lock(&observing_);
    if (event.has_finished()) {
      finished = true;
      observer_->Finished(event.finished());
    } else {
      observer_->Event(run_id, event);
    }
  }
  const absl::Status status = FromGrpc(reader->Finish());
  {
    base::MutexLock lock(&mutex_);
    contexts_.erase(&context);
  }
  KTSTR_RETURN_IF_ERROR(order);
  if (finished) return true;
  if (status.ok())
    return absl::UnavailableError("the daemon ended the stream before the run's record");
  return status;
}

void RunFlow::FollowOne(const std::string& run_id) {
  uint64_t cursor = 0;
  int attempts = 0;
  absl::Duration backoff = options_.first_backoff;
  while (true) {
    const uint64_t before = cursor;
    const std::shared_ptr<Connection> connection = session_->connection();
    absl::Status status = Stream(connection.get(), run_id, &cursor).status();
    if (status.ok() || left()) return;
    if (cursor != before) {
      attempts = 0;
      backoff = options_.first_backoff;
    }
    if (ConnectionLost(status) && attempts < options_.max_reconnects) {
      ++attempts;
      {
        base::MutexLock lock(&observing_);
        observer_->Reconnecting(run_id, status);
      }
      if (!Pause(backoff)) return;
      backoff = std::min(backoff * 2, options_.max_backoff);
      // Its failure shows in the next attempt, which meets the same lost connection.
      if (absl::Status again = session_->Reconnect(connection); again.ok() || ConnectionLost(again))
        continue;
      else
        status = again;
    }
    base::MutexLock lock(&observing_);
    observer_->Failed(run_id, base::Annotate(status, absl::StrCat("run ", run_id)));
    return;
  }
}

bool RunFlow::Pause(absl::Duration backoff) {
  const absl::Duration end = base::RealClock()->Monotonic() + backoff;
  base::MutexLock lock(&mutex_);
  while (!left_) {
    const absl::Duration left = end - base::RealClock()->Monotonic();
    if (left <= absl::ZeroDuration()) break;
    changed_.WaitFor(&mutex_, left);
  }
  return !left_;
}

void RunFlow::CancelOne(const std::string& run_id, const std::string& reason) {
  Call call(this);
  v1::CancelRunRequest request;
  request.set_run_id(run_id);
  request.set_reason(reason);
  v1::CancelRunResponse response;
  const absl::Status status =
      FromGrpc(session_->connection()->stub()->CancelRun(call.context(), request, &response));
  if (status.ok() || left()) return;
  base::MutexLock lock(&observing_);
  observer_->Failed(run_id, base::Annotate(status, absl::StrCat("cancel of run ", run_id)));
}

void RunFlow::Cancel(const std::string& reason) {
  std::set<std::string> runs;
  {
    base::MutexLock lock(&mutex_);
    if (cancelled_ || left_) return;
    cancelled_ = true;
    cancel_reason_ = reason;
    runs = in_flight_;
  }
  // On a thread of its own: whoever waits for a daemon that does not answer can still leave.
  threads_.emplace_back([this, runs = std::move(runs), reason] {
    for (const std::string& run_id : runs) CancelOne(run_id, reason);
  });
}

void RunFlow::Leave() {
  base::MutexLock lock(&mutex_);
  left_ = true;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
  changed_.SignalAll();
}

}  // namespace ktstr::client
