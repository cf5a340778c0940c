// SPDX-License-Identifier: Apache-2.0
//
// A message that the daemon sends in pieces, because it can be larger than one message of gRPC: put
// together and parsed again. One thread.

#ifndef KTSTR_CLIENT_PIECES_H_
#define KTSTR_CLIENT_PIECES_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/connect.h"
#include "google/protobuf/message_lite.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::client {

class Pieces {
 public:
  // The next piece. True when the message is complete and parsed into `message`; the object is
  // empty again then. Internal when the pieces make no message; ResourceExhausted above
  // base::kMaxPiecedBytes.
  absl::StatusOr<bool> Add(const v1::Piece& piece, google::protobuf::MessageLite* message);

 private:
  std::string bytes_;
};

// Reads one message in pieces to the end of the call. `progress`: called for each piece; `finish`:
// makes the result of the call from its status.
absl::Status ReadPieces(grpc::ClientContext* context,
                        grpc::ClientReaderInterface<v1::Piece>* reader,
                        const std::function<void()>& progress,
                        const std::function<absl::Status(const grpc::Status&)>& finish,
                        google::protobuf::MessageLite* message);

// One call of GetRun, which ends also by its deadline or by a signal.
absl::Status GetRun(const Session& session, const v1::GetRunRequest& request,
                    v1::GetRunResponse* response);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_PIECES_H_
