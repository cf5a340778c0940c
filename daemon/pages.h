// SPDX-License-Identifier: Apache-2.0
//
// Answers that could be larger than a message: lists in pages, one large message in pieces. Any
// thread.

#ifndef KTSTR_DAEMON_PAGES_H_
#define KTSTR_DAEMON_PAGES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/protocol.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "google/protobuf/message_lite.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::daemon {

template <typename Entry>
struct Page {
  std::vector<Entry> entries;
  std::string next_token;  // Empty: it is the last one.
};

// The size that a request means. InvalidArgument for a negative one.
absl::StatusOr<size_t> PageSize(int32_t page_size);

// One page of `all`, whose entries have unlike keys: a token is the key of the entry that the page
// before ended with. FailedPrecondition when that entry is gone.
template <typename Entry, typename KeyOf>
absl::StatusOr<Page<Entry>> PageOf(std::vector<Entry> all, int32_t page_size,
                                   const std::string& token, KeyOf key_of) {
  KTSTR_ASSIGN_OR_RETURN(const size_t size, PageSize(page_size));
  size_t next = 0;
  if (!token.empty()) {
    while (next < all.size() && key_of(all[next]) != token) ++next;
    if (next == all.size()) {
      return absl::FailedPreconditionError(
          absl::StrCat("page_token: '", base::OneLine(token, 64),
                       "' is no longer in the list, which has changed meanwhile: list again"));
    }
    ++next;
  }
  Page<Entry> page;
  for (size_t bytes = 0;
       next < all.size() && page.entries.size() < size && bytes < base::kPieceBytes; ++next) {
    bytes += all[next].ByteSizeLong();
    page.entries.push_back(std::move(all[next]));
  }
  if (next < all.size()) page.next_token = key_of(page.entries.back());
  return page;
}

// Hands out the pieces of `message`, until `send` returns false; false then.
bool SendPieces(const google::protobuf::MessageLite& message,
                const std::function<bool(const v1::Piece&)>& send);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_PAGES_H_
