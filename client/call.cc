// SPDX-License-Identifier: Apache-2.0
#include "client/call.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"

namespace ktstr::client {
namespace {

absl::Duration Now() { return base::RealClock()->Monotonic(); }

int PollMs(absl::Duration time) {
  const int64_t ms = absl::ToInt64Milliseconds(absl::Ceil(time, absl::Milliseconds(1)));
  return static_cast<int>(std::clamp<int64_t>(ms, 0, std::numeric_limits<int>::max()));
}

}  // namespace

GuardedCall::GuardedCall(int interrupt_fd, absl::Duration limit)
    : interrupt_fd_(interrupt_fd),
      limit_(limit),
      ended_fd_(eventfd(0, EFD_CLOEXEC)),
      deadline_(Now() + limit) {
  KTSTR_CHECK(ended_fd_.valid()) << "eventfd";
  thread_ = std::thread(&GuardedCall::Watch, this);
}

GuardedCall::~GuardedCall() {
  KTSTR_CHECK(eventfd_write(ended_fd_.get(), 1) == 0) << "eventfd";
  thread_.join();
}

void GuardedCall::Watch() {
  while (true) {
    absl::Duration left;
    {
      base::MutexLock lock(&mutex_);
      left = deadline_ - Now();
      expired_ = left <= absl::ZeroDuration();
    }
    pollfd fds[2] = {{ended_fd_.get(), POLLIN, 0}, {interrupt_fd_, POLLIN, 0}};
    poll(fds, 2, PollMs(left));
    if (fds[0].revents != 0) return;
    if (fds[1].revents == 0 && left > absl::ZeroDuration()) continue;
    {
      base::MutexLock lock(&mutex_);
      interrupted_ = fds[1].revents != 0;
    }
    context_.TryCancel();
    return;
  }
}

void GuardedCall::Progress() {
  base::MutexLock lock(&mutex_);
  deadline_ = Now() + limit_;
}

absl::Status GuardedCall::Finish(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  base::MutexLock lock(&mutex_);
  if (status.error_code() == grpc::StatusCode::CANCELLED) {
    if (interrupted_) return Interrupted();
    if (!expired_) {
      return absl::UnavailableError(
          absl::StrCat("the daemon ended the call: ", status.error_message()));
    }
    return absl::DeadlineExceededError(
        absl::StrCat("the daemon did not respond for ", absl::FormatDuration(limit_)));
  }
  return FromGrpc(status);
}

bool WaitReadable(int fd, absl::Duration timeout) {
  pollfd wait = {fd, POLLIN, 0};
  return poll(&wait, 1, PollMs(timeout)) > 0 && wait.revents != 0;
}

absl::Status Interrupted() { return absl::CancelledError("interrupted"); }

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // The numbers are the same by definition (google.rpc.Code).
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace ktstr::client
