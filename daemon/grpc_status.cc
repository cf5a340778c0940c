// SPDX-License-Identifier: Apache-2.0
#include "daemon/grpc_status.h"

#include <string>

#include "base/head_tail.h"
#include "base/utf8.h"

namespace ktstr::daemon {
namespace {
// gRPC refuses metadata above 8 KiB in all; percent-encoding may triple a byte.
constexpr size_t kMaxMessage = 2500;
}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message(status.message());
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      base::SanitizeUtf8(base::CutLine(message, kMaxMessage)));
}

}  // namespace ktstr::daemon
