// SPDX-License-Identifier: Apache-2.0
#include "daemon/user_blobs.h"

#include "absl/strings/str_cat.h"
#include "cache/cache_error.h"

namespace ktstr::daemon {

absl::StatusOr<cache::BlobStore*> UserBlobs::Of(uid_t uid) {
  base::MutexLock lock(&mutex_);
  if (auto it = stores_.find(uid); it != stores_.end()) return it->second.get();
  const std::string dir = absl::StrCat(dir_, "/", uid);
  absl::StatusOr<std::unique_ptr<cache::BlobStore>> store =
      cache::BlobStore::Open(dir, budget_bytes_);
  if (!store.ok()) {
    return cache::ExplainCacheError(store.status(), absl::StrCat("blob store ", dir));
  }
  return (stores_[uid] = *std::move(store)).get();
}

}  // namespace ktstr::daemon
