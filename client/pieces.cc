// SPDX-License-Identifier: Apache-2.0
#include "client/pieces.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/protocol.h"
#include "base/status_macros.h"
#include "client/call.h"

namespace ktstr::client {

absl::StatusOr<bool> Pieces::Add(const v1::Piece& piece, google::protobuf::MessageLite* message) {
  if (bytes_.size() + piece.data().size() > base::kMaxPiecedBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the daemon sent a message of more than ",
                                                     base::kMaxPiecedBytes >> 20, " MiB"));
  }
  bytes_ += piece.data();
  if (!piece.last()) return false;
  const bool parsed = message->ParseFromString(std::exchange(bytes_, {}));
  if (!parsed) return absl::InternalError("the daemon sent pieces that make no message");
  return true;
}

absl::Status ReadPieces(grpc::ClientContext* context,
                        grpc::ClientReaderInterface<v1::Piece>* reader,
                        const std::function<void()>& progress,
                        const std::function<absl::Status(const grpc::Status&)>& finish,
                        google::protobuf::MessageLite* message) {
  Pieces pieces;
  v1::Piece piece;
  absl::StatusOr<bool> complete = false;
  while (complete.ok() && !*complete && reader->Read(&piece)) {
    progress();
    complete = pieces.Add(piece, message);
  }
  if (!complete.ok()) context->TryCancel();
  const absl::Status status = finish(reader->Finish());
  KTSTR_RETURN_IF_ERROR(complete.status());
  KTSTR_RETURN_IF_ERROR(status);
  if (!*complete) return absl::InternalError("the daemon ended its answer before the last piece");
  return absl::OkStatus();
}

absl::Status GetRun(const Session& session, const v1::GetRunRequest& request,
                    v1::GetRunResponse* response) {
  GuardedCall call(session.interrupt_fd(), kCallLimit);
  const std::shared_ptr<Connection> connection = session.connection();
  const auto reader = connection->stub()->GetRun(call.context(), request);
  return ReadPieces(
      call.context(), reader.get(), [&call] { call.Progress(); },
      [&call](const grpc::Status& status) { return call.Finish(status); }, response);
}

}  // namespace ktstr::client
