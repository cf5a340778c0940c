// SPDX-License-Identifier: Apache-2.0
//
// The sqlite index of the kernel entries: versions, last use, and the files whose SHA-256 has been
// checked. Except for the last use, KernelCache can make it again from the directories, so it
// treats every error here as "no index". One thread at a time (KernelCache's mutex); several
// processes at once (WAL).

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
    std::string stamp;  // EntryCheck::stamp of files with the right SHA-256; empty: not checked.
  };

  // Makes the database when it is missing, and replaces one that is damaged, of another schema, or
  // no database.
  static absl::StatusOr<std::unique_ptr<KernelIndex>> Open(const std::string& path);
  ~KernelIndex();

  // Whether the path no longer names the open file.
  bool Replaced() const;
  absl::StatusOr<std::vector<Row>> All();
  absl::StatusOr<std::optional<Row>> Find(const std::string& key);
  // Inserts or replaces a row; an existing row keeps its last_used_unix_s.
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
