// SPDX-License-Identifier: Apache-2.0
#include "daemon/user_blobs.h"

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::daemon {

absl::StatusOr<cache::BlobStore*> UserBlobs::Of(uid_t uid) {
  base::MutexLock lock(&mutex_);
  if (auto it = stores_.find(uid); it != stores_.end()) return it->second.get();
  const std::string dir = absl::StrCat(dir_, "/", uid);
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(dir, 0700));
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<cache::BlobStore> store,
                         cache::BlobStore::Open(dir, budget_bytes_));
  return (stores_[uid] = std::move(store)).get();
}

}  // namespace ktstr::daemon
