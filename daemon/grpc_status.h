// SPDX-License-Identifier: Apache-2.0
//
// The one place where absl::Status and grpc::Status meet. Any thread.

#ifndef KTSTR_DAEMON_GRPC_STATUS_H_
#define KTSTR_DAEMON_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace ktstr::daemon {

// Same code (both are google.rpc.Code); the message as valid UTF-8 short enough for a trailer.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_GRPC_STATUS_H_
