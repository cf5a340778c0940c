// SPDX-License-Identifier: Apache-2.0
//
// Protobuf messages with descriptors over a SOCK_SEQPACKET unix socket pair: ktstrd <-> ktstr-vm.
// One thread per end and direction.

#ifndef KTSTR_BASE_SEQPACKET_H_
#define KTSTR_BASE_SEQPACKET_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"

namespace ktstr::base {

inline constexpr size_t kMaxPacket = 128 << 10;
inline constexpr size_t kMaxPacketFds = 32;

struct Packet {
  std::string data;
  std::vector<UniqueFd> fds;  // Close-on-exec.
};

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakeSeqpacketPair();
// Blocks while the peer's buffer is full. Unavailable when the peer is gone (no SIGPIPE).
absl::Status SendPacket(int socket, const std::string& data, const std::vector<int>& fds = {});
// OutOfRange at end of stream, DeadlineExceeded after `timeout`, InvalidArgument for a packet above
// the limits.
absl::StatusOr<Packet> ReceivePacket(int socket, absl::Duration timeout);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_SEQPACKET_H_
