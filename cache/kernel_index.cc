// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_index.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <variant>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace ktstr::cache {
namespace {

constexpr int kBusyTimeoutMs = 5000;
// PRAGMA user_version; Open replaces an index with another number.
constexpr int kSchemaVersion = 1;
constexpr char kSchema[] =
    "CREATE TABLE IF NOT EXISTS kernels("
    "  key TEXT PRIMARY KEY, version TEXT NOT NULL, release TEXT NOT NULL, sched_ext INT NOT NULL,"
    "  created INT NOT NULL, last_used INT NOT NULL DEFAULT 0, stamp TEXT NOT NULL) WITHOUT ROWID;";

using Value = std::variant<std::string, int64_t>;

absl::Status SqliteError(sqlite3* db, int code, const std::string& path) {
  std::string message = absl::StrCat(path, ": ", db != nullptr ? sqlite3_errmsg(db) : "no memory");
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(message);
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

absl::StatusOr<Statement> Prepare(sqlite3* db, const std::string& path, const char* sql,
                                  const std::vector<Value>& values) {
  sqlite3_stmt* raw = nullptr;
  if (int code = sqlite3_prepare_v2(db, sql, -1, &raw, nullptr); code != SQLITE_OK) {
    return SqliteError(db, code, path);
  }
  Statement statement(raw);
  int at = 1;
  for (const Value& value : values) {
    int code;
    if (const auto* text = std::get_if<std::string>(&value)) {
      code = sqlite3_bind_text(raw, at++, text->data(), static_cast<int>(text->size()),
                               SQLITE_TRANSIENT);
    } else {
      code = sqlite3_bind_int64(raw, at++, std::get<int64_t>(value));
    }
    if (code != SQLITE_OK) return SqliteError(db, code, path);
  }
  return statement;
}

absl::Status Execute(sqlite3* db, const std::string& path, const char* sql,
                     const std::vector<Value>& values) {
  KTSTR_ASSIGN_OR_RETURN(Statement statement, Prepare(db, path, sql, values));
  int code;
  while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
  }
  return code == SQLITE_DONE ? absl::OkStatus() : SqliteError(db, code, path);
}

std::string Text(sqlite3_stmt* statement, int column) {
  const unsigned char* text = sqlite3_column_text(statement, column);
  return text == nullptr ? "" : reinterpret_cast<const char*>(text);
}

absl::StatusOr<std::vector<KernelIndex::Row>> Query(sqlite3* db, const std::string& path,
                                                    const char* sql,
                                                    const std::vector<Value>& values) {
  KTSTR_ASSIGN_OR_RETURN(Statement statement, Prepare(db, path, sql, values));
  std::vector<KernelIndex::Row> rows;
  int code;
  while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
    KernelIndex::Row row;
    row.key = Text(statement.get(), 0);
    row.version = Text(statement.get(), 1);
    row.release = Text(statement.get(), 2);
    row.sched_ext = sqlite3_column_int(statement.get(), 3) != 0;
    row.created_unix_s = sqlite3_column_int64(statement.get(), 4);
    row.last_used_unix_s = sqlite3_column_int64(statement.get(), 5);
    row.stamp = Text(statement.get(), 6);
    rows.push_back(std::move(row));
  }
  if (code != SQLITE_DONE) return SqliteError(db, code, path);
  return rows;
}

// Makes the schema unless it exists; DataLoss for another schema.
absl::Status PrepareSchema(sqlite3* db, const std::string& path) {
  KTSTR_RETURN_IF_ERROR(Execute(db, path, "PRAGMA journal_mode=WAL", {}));
  KTSTR_RETURN_IF_ERROR(Execute(db, path, "PRAGMA synchronous=NORMAL", {}));
  KTSTR_ASSIGN_OR_RETURN(Statement version, Prepare(db, path, "PRAGMA user_version", {}));
  if (int code = sqlite3_step(version.get()); code != SQLITE_ROW)
    return SqliteError(db, code, path);
  int found = sqlite3_column_int(version.get(), 0);
  version.reset();
  if (found != 0 && found != kSchemaVersion) {
    return absl::DataLossError(
        absl::StrCat(path, ": schema ", found, " instead of ", kSchemaVersion));
  }
  KTSTR_RETURN_IF_ERROR(Execute(db, path, kSchema, {}));
  KTSTR_RETURN_IF_ERROR(
      Execute(db, path, absl::StrCat("PRAGMA user_version=", kSchemaVersion).c_str(), {}));
  // Finds a table of another shape under our name, and damaged pages.
  return Query(db, path,
               "SELECT key,version,release,sched_ext,created,last_used,stamp FROM kernels", {})
      .status();
}

}  // namespace

absl::StatusOr<std::unique_ptr<KernelIndex>> KernelIndex::OpenOnce(const std::string& path) {
  sqlite3* db = nullptr;
  int code = sqlite3_open_v2(
      path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<KernelIndex> index(new KernelIndex(path, db));
  if (code != SQLITE_OK) return SqliteError(db, code, path);
  sqlite3_busy_timeout(db, kBusyTimeoutMs);
  KTSTR_RETURN_IF_ERROR(PrepareSchema(db, path));
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return base::ErrnoStatus(errno, path);
  index->device_ = info.st_dev;
  index->inode_ = info.st_ino;
  return index;
}

absl::StatusOr<std::unique_ptr<KernelIndex>> KernelIndex::Open(const std::string& path) {
  absl::StatusOr<std::unique_ptr<KernelIndex>> index = OpenOnce(path);
  if (index.ok() || !absl::IsDataLoss(index.status())) return index;
  KTSTR_LOG(WARNING) << index.status().message() << "; making a new kernel index";
  for (const char* suffix : {"", "-wal", "-shm"}) unlink(absl::StrCat(path, suffix).c_str());
  return OpenOnce(path);
}

KernelIndex::~KernelIndex() { sqlite3_close(db_); }

bool KernelIndex::Replaced() const {
  struct stat info {};
  return stat(path_.c_str(), &info) != 0 || info.st_dev != device_ || info.st_ino != inode_;
}

absl::StatusOr<std::vector<KernelIndex::Row>> KernelIndex::All() {
  return Query(db_, path_,
               "SELECT key,version,release,sched_ext,created,last_used,stamp FROM kernels", {});
}

absl::StatusOr<std::optional<KernelIndex::Row>> KernelIndex::Find(const std::string& key) {
  KTSTR_ASSIGN_OR_RETURN(
      std::vector<Row> rows,
      Query(db_, path_,
            "SELECT key,version,release,sched_ext,created,last_used,stamp FROM kernels "
            "WHERE key=?",
            {key}));
  if (rows.empty()) return std::nullopt;
  return std::move(rows.front());
}

absl::Status KernelIndex::Put(const Row& row) {
  return Execute(
      db_, path_,
      "INSERT INTO kernels(key,version,release,sched_ext,created,stamp) "
      "VALUES(?,?,?,?,?,?) ON CONFLICT(key) DO UPDATE SET version=excluded.version,"
      "release=excluded.release,sched_ext=excluded.sched_ext,created=excluded.created,"
      "stamp=excluded.stamp",
      {row.key, row.version, row.release, int64_t{row.sched_ext}, row.created_unix_s, row.stamp});
}

absl::Status KernelIndex::Remove(const std::string& key) {
  return Execute(db_, path_, "DELETE FROM kernels WHERE key=?", {key});
}

absl::Status KernelIndex::Touch(const std::string& key, int64_t now_unix_s) {
  return Execute(db_, path_, "UPDATE kernels SET last_used=? WHERE key=?", {now_unix_s, key});
}

}  // namespace ktstr::cache
