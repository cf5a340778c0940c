// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/qmp.h"

#include <fcntl.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/string_view.h"

namespace ktstr::vmm::qemu {
namespace {

constexpr size_t kMaxLine = size_t{1} << 20;

// A text member of an object; empty when there is none.
std::string Member(const google::protobuf::Value& object, const std::string& name) {
  const auto& fields = object.struct_value().fields();
  const auto found = fields.find(name);
  return found == fields.end() ? "" : found->second.string_value();
}

}  // namespace

absl::StatusOr<QmpMessage> ParseQmp(std::string_view line) {
  google::protobuf::Struct object;
  auto parsed = google::protobuf::util::JsonStringToMessage(std::string(line), &object);
  const auto& fields = object.fields();
  const auto id_member = fields.find("id");
  const int64_t id =
      id_member == fields.end() ? 0 : static_cast<int64_t>(id_member->second.number_value());
  if (parsed.ok()) {
    if (fields.count("QMP") != 0) return QmpMessage{.kind = QmpMessage::Kind::kGreeting};
    if (auto answer = fields.find("return"); answer != fields.end()) {
      const google::protobuf::Value& value = answer->second;
      return QmpMessage{
          .kind = QmpMessage::Kind::kReturn,
          .text = value.has_string_value() ? value.string_value() : Member(value, "error-desc"),
          .id = id};
    }
    if (auto event = fields.find("event"); event != fields.end()) {
      QmpMessage message{.kind = QmpMessage::Kind::kEvent, .text = event->second.string_value()};
      if (auto data = fields.find("data"); data != fields.end()) {
        message.status = Member(data->second, "status");
        message.reason = Member(data->second, "reason");
      }
      return message;
    }
    if (auto error = fields.find("error"); error != fields.end()) {
      return QmpMessage{
          .kind = QmpMessage::Kind::kError, .text = Member(error->second, "desc"), .id = id};
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("QMP: not a message: \"", base::ToAbsl(line.substr(0, 100)), "\""));
}

absl::StatusOr<QmpClient> QmpClient::Create(base::UniqueFd socket) {
  const int flags = fcntl(socket.get(), F_GETFL);
  if (flags < 0 || fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return base::ErrnoStatus(errno, "QMP socket");
  }
  return QmpClient(std::move(socket));
}

absl::StatusOr<std::optional<QmpMessage>> QmpClient::Next() {
  while (true) {
    if (size_t end = buffer_.find('\n'); end != std::string::npos) {
      const std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      KTSTR_ASSIGN_OR_RETURN(QmpMessage message, ParseQmp(line));
      return std::optional<QmpMessage>(std::move(message));
    }
    if (buffer_.size() > kMaxLine) return absl::InvalidArgumentError("QMP: line above 1 MiB");
    char piece[4096];
    const ssize_t got = read(socket_.get(), piece, sizeof(piece));
    if (got > 0) {
      buffer_.append(piece, static_cast<size_t>(got));
    } else if (got == 0 || errno == ECONNRESET) {
      return absl::OutOfRangeError("QMP: the engine closed the connection");
    } else if (errno == EAGAIN) {
      return std::optional<QmpMessage>();
    } else if (errno != EINTR) {
      return base::ErrnoStatus(errno, "QMP: read");
    }
  }
}

absl::StatusOr<QmpMessage> QmpClient::Await(absl::Duration timeout) {
  const absl::Duration deadline = base::RealClock()->Monotonic() + timeout;
  while (true) {
    KTSTR_ASSIGN_OR_RETURN(std::optional<QmpMessage> message, Next());
    if (message.has_value()) return *std::move(message);
    const int64_t left = absl::ToInt64Milliseconds(deadline - base::RealClock()->Monotonic());
    if (left <= 0) {
      return absl::DeadlineExceededError(
          absl::StrCat("QMP: no response within ", absl::FormatDuration(timeout)));
    }
    pollfd ready = {socket_.get(), POLLIN, 0};
    poll(&ready, 1, static_cast<int>(left));
  }
}

absl::Status QmpClient::Send(std::string_view command, std::string_view arguments, int fd) {
  const std::string line =
      absl::StrCat("{\"execute\":\"", base::ToAbsl(command),
                   "\",\"arguments\":", base::ToAbsl(arguments), ",\"id\":", ++last_id_, "}\n");
  // A command is far smaller than the socket's buffer: a short write means a dead engine.
  iovec part = {const_cast<char*>(line.data()), line.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  }
  const ssize_t put = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  if (put == static_cast<ssize_t>(line.size())) return absl::OkStatus();
  return base::ErrnoStatus(put < 0 ? errno : EIO,
                           absl::StrCat("QMP: sending ", base::ToAbsl(command)));
}

}  // namespace ktstr::vmm::qemu
