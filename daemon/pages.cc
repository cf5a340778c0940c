// SPDX-License-Identifier: Apache-2.0
#include "daemon/pages.h"

#include <algorithm>

namespace ktstr::daemon {

absl::StatusOr<size_t> PageSize(int32_t page_size) {
  if (page_size < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size: ", page_size, ", at least 0 (0: ", base::kDefaultPageSize, ")"));
  }
  return static_cast<size_t>(page_size == 0 ? base::kDefaultPageSize
                                            : std::min(page_size, base::kMaxPageSize));
}

bool SendPieces(const google::protobuf::MessageLite& message,
                const std::function<bool(const v1::Piece&)>& send) {
  const std::string bytes = message.SerializeAsString();
  size_t sent = 0;
  v1::Piece piece;
  do {
    piece.set_data(bytes.substr(sent, base::kPieceBytes));
    sent += piece.data().size();
    piece.set_last(sent == bytes.size());
    if (!send(piece)) return false;
  } while (!piece.last());
  return true;
}

}  // namespace ktstr::daemon
