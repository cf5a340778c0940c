// SPDX-License-Identifier: Apache-2.0
#include "base/seqpacket.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"

namespace ktstr::base {
namespace {

constexpr size_t kControlSize = CMSG_SPACE(sizeof(int) * kMaxPacketFds);

void TakeFds(msghdr* message, std::vector<UniqueFd>* fds) {
  for (cmsghdr* c = CMSG_FIRSTHDR(message); c != nullptr; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      fds->emplace_back(fd);
    }
  }
}

}  // namespace

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakeSeqpacketPair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoStatus(errno, "socketpair");
  }
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

absl::Status SendPacket(int socket, const std::string& data, const std::vector<int>& fds) {
  if (data.empty() || data.size() > kMaxPacket || fds.size() > kMaxPacketFds) {
    return absl::InvalidArgumentError(absl::StrCat("packet of ", data.size(), " bytes with ",
                                                   fds.size(), " descriptors: the limits are 1 to ",
                                                   kMaxPacket, " and ", kMaxPacketFds));
  }
  iovec part{const_cast<char*>(data.data()), data.size()};
  alignas(cmsghdr) char control[kControlSize] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
  }
  for (;;) {
    if (sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET) return absl::UnavailableError("the peer is gone");
    return ErrnoStatus(errno, "sendmsg");
  }
}

absl::StatusOr<Packet> ReceivePacket(int socket, absl::Duration timeout) {
  pollfd wait{socket, POLLIN, 0};
  const absl::Duration deadline = RealClock()->Monotonic() + timeout;
  int ready = 0;
  do {
    const absl::Duration left = deadline - RealClock()->Monotonic();
    ready = poll(
        &wait, 1,
        left == absl::InfiniteDuration()
            ? -1
            : static_cast<int>(std::clamp<int64_t>(absl::ToInt64Milliseconds(left), 0, 1 << 30)));
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return ErrnoStatus(errno, "poll");
  if (ready == 0) return absl::DeadlineExceededError("no packet came in time");

  Packet packet;
  packet.data.resize(kMaxPacket);
  iovec part{packet.data.data(), packet.data.size()};
  alignas(cmsghdr) char control[kControlSize];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  // A peer that closed without reading everything causes one ECONNRESET; what it sent before that
  // can still be received.
  while (got < 0 && (errno == EINTR || errno == ECONNRESET)) {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  }
  if (got < 0) return ErrnoStatus(errno, "recvmsg");
  if (got <= 0) return absl::OutOfRangeError("end of stream");
  TakeFds(&message, &packet.fds);
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("packet over the limits of ", kMaxPacket,
                                                   " bytes or ", kMaxPacketFds, " descriptors"));
  }
  packet.data.resize(static_cast<size_t>(got));
  return packet;
}

}  // namespace ktstr::base
