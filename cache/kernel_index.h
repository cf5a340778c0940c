// SPDX-License-Identifier: Apache-2.0
//
// The sqlite index over the kernel entries: lookups by version, last use, and which files have been
// checked against their SHA-256. It holds nothing that cannot be made again from the directories,
// so KernelCache treats every error here as "no index". One thread at a time (KernelCache's mutex);
// several processes at once (WAL).

#ifndef KTSTR_CACHE_KERNEL_INDEX_H_
#define KTSTR_CACHE_KERNEL_INDEX_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct sqlite3;

namespace ktstr::cache {

class KernelIndex {
 public:
  struct Row {
    std::string key;
    std::string version;
    std::string release;
    bool sched_ext = false;
    int64_t created_unix_s = 0;
    int64_t last_used_unix_s = 0;  // 0: never.
    std::string
        stamp;  // Of the files whose SHA-256 was right (EntryCheck::stamp); empty: not checked.
  };

  // Makes the database when it is missing, and makes it anew when it is no database, damaged, or of
  // another schema.
  static absl::StatusOr<std::unique_ptr<KernelIndex>> Open(const std::string& path);
  ~KernelIndex();

  // The file under the path is no longer the one that was opened.
  bool Replaced() const;
  absl::StatusOr<std::vector<Row>> All();
  absl::StatusOr<std::optional<Row>> Find(const std::string& key);
  // Inserts or replaces all but last_used_unix_s, which stays when the row exists.
  absl::Status Put(const Row& row);
  absl::Status Remove(const std::string& key);
  absl::Status Touch(const std::string& key, int64_t now_unix_s);

 private:
  KernelIndex(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  static absl::StatusOr<std::unique_ptr<KernelIndex>> OpenOnce(const std::string& path);

  const std::string path_;
  sqlite3* const db_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_INDEX_H_
