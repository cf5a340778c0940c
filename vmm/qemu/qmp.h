// SPDX-License-Identifier: Apache-2.0
//
// QEMU Machine Protocol over a socket: one JSON object per line (QEMU's docs/interop/qmp-spec). A
// command while the guest runs would disturb its virtual time: only Machine decides when to send.
//
// One thread. The object owns the socket, which it makes non-blocking.

#ifndef KTSTR_VMM_QEMU_QMP_H_
#define KTSTR_VMM_QEMU_QMP_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"

namespace ktstr::vmm::qemu {

struct QmpMessage {
  enum class Kind { kGreeting, kReturn, kError, kEvent };
  Kind kind = Kind::kEvent;
  // Name of the event; description of the error; text of the response, or its `error-desc`.
  std::string text = {};
  std::string status = {};  // Of an event MIGRATION: "active", "completed", "failed", …
  std::string reason =
      {};          // Of an event SHUTDOWN: "guest-shutdown", "guest-reset", "host-signal", …
  int64_t id = 0;  // Of the command that a response is for (QmpClient::last_id); 0: none.
};

// InvalidArgument for a line that is no QMP message.
absl::StatusOr<QmpMessage> ParseQmp(std::string_view line);

class QmpClient {
 public:
  static absl::StatusOr<QmpClient> Create(base::UniqueFd socket);

  int fd() const { return socket_.get(); }
  // The next whole message, nullopt when there is none yet. OutOfRange at the end of the stream.
  // A line of more than 1 MiB is InvalidArgument.
  absl::StatusOr<std::optional<QmpMessage>> Next();
  // Waits for a message. DeadlineExceeded after `timeout`.
  absl::StatusOr<QmpMessage> Await(absl::Duration timeout);
  // Sends a command. `arguments`: a JSON object. `fd`: goes with it (getfd). Next() returns the
  // response, which may come long after later events: while a vCPU is busy, QEMU does not send it.
  absl::Status Send(std::string_view command, std::string_view arguments = "{}", int fd = -1);
  // Of the last command.
  int64_t last_id() const { return last_id_; }

 private:
  explicit QmpClient(base::UniqueFd socket) : socket_(std::move(socket)) {}

  base::UniqueFd socket_;
  std::string buffer_;
  int64_t last_id_ = 0;
};

}  // namespace ktstr::vmm::qemu

#endif  // KTSTR_VMM_QEMU_QMP_H_
