// SPDX-License-Identifier: Apache-2.0
//
// One call of the daemon that always ends: by its response, by a signal of the user, or because
// nothing came for too long. One thread makes and finishes it, and blocks in gRPC meanwhile; a
// thread of the object's own cancels the call.
//
//   GuardedCall call(session.interrupt_fd(), kCallLimit);
//   const absl::Status status = call.Finish(stub->CancelRun(call.context(), request, &response));

#ifndef KTSTR_CLIENT_CALL_H_
#define KTSTR_CLIENT_CALL_H_

#include <grpcpp/client_context.h>

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/fd.h"
#include "base/mutex.h"

namespace ktstr::client {

// For a call that the daemon answers at once.
inline constexpr absl::Duration kCallLimit = absl::Seconds(60);
// For one that may check the files of a kernel first.
inline constexpr absl::Duration kSubmitLimit = absl::Seconds(120);

class GuardedCall {
 public:
  // Ends the call when `interrupt_fd` becomes readable (-1: never), and `limit` after the last
  // Progress(), or after its start. Reads nothing from the descriptor.
  GuardedCall(int interrupt_fd, absl::Duration limit);
  ~GuardedCall();
  GuardedCall(const GuardedCall&) = delete;
  GuardedCall& operator=(const GuardedCall&) = delete;

  grpc::ClientContext* context() { return &context_; }
  // A stream moved on.
  void Progress();
  // The result of the call. Cancelled only when the user interrupted it; DeadlineExceeded when
  // nothing came for too long; Unavailable when the daemon cancelled it.
  absl::Status Finish(const grpc::Status& status);

 private:
  void Watch();

  const int interrupt_fd_;
  const absl::Duration limit_;
  grpc::ClientContext context_;
  base::UniqueFd ended_fd_;
  base::Mutex mutex_;
  absl::Duration deadline_ ABSL_GUARDED_BY(mutex_);  // Of the monotonic clock.
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  bool expired_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// Waits for `fd` to become readable, at most `timeout`.
bool WaitReadable(int fd, absl::Duration timeout);

// The error of an interrupted command: exit code 130.
absl::Status Interrupted();

// The gRPC status with its code and message.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_CALL_H_
