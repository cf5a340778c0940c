// SPDX-License-Identifier: Apache-2.0
//
// runs.db: every run, its numbered events, its spec and its observations, in sqlite (WAL). Submit
// and Finish are on the disk when they return (synchronous=FULL); events in between survive the end
// of the daemon, not of the machine. One process uses a database at a time (Daemon holds the lock),
// so it is locked as a whole and needs no shared memory beside it: a database on a full disk opens.
// Any thread; calls are serialized.
//
// The store counts the bytes of each run, and Prune bounds their sum per user. What goes first:
//   1. observations and events of the oldest finished runs, but for the last event;
//   2. the oldest finished runs.
// Queued and running runs stay; the budget also spares the run that has just finished. SQLite
// reuses freed pages, and the file shrinks by a few MiB at a time (auto_vacuum=INCREMENTAL).

#ifndef KTSTR_DAEMON_RUN_STORE_H_
#define KTSTR_DAEMON_RUN_STORE_H_

#include <sys/types.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/service.pb.h"

struct sqlite3;
struct sqlite3_stmt;

namespace ktstr::daemon {

// 193 <-> "r-0193".
std::string RunId(int64_t number);
// nullopt: not the id of a run.
std::optional<int64_t> ParseRunId(const std::string& id);

enum class RunState { kQueued = 0, kRunning = 1, kFinished = 2 };
std::string_view RunStateName(RunState state);  // "queued", "running", "finished"

struct StoredRun {
  int64_t number = 0;
  uid_t uid = 0;
  RunState state = RunState::kQueued;
  v1::Verdict verdict = v1::VERDICT_UNSPECIFIED;
  std::string scenario;
  int64_t submitted_ms = 0;
  uint64_t events = 0;
};

class RunStore {
 public:
  // Makes the file (0600) when it is missing. FailedPrecondition for a database of another schema
  // version.
  static absl::StatusOr<std::unique_ptr<RunStore>> Open(const std::string& path);
  ~RunStore();
  RunStore(const RunStore&) = delete;
  RunStore& operator=(const RunStore&) = delete;

  // Durable when it returns. `queued` becomes event 0. Returns the run's number.
  absl::StatusOr<int64_t> Submit(uid_t uid, const v1::RunSpec& spec, v1::RunEvent queued)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SetRunning(int64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  // Numbers the event and returns how many events the run then has. AlreadyExists when the run has
  // finished; FailedPrecondition on a full or read-only disk.
  absl::StatusOr<uint64_t> AppendEvent(int64_t number, v1::RunEvent event)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // One transaction: record, observations, state and the `finished` event. Durable when it returns.
  // `record_file` (record_files.h; empty: none) is due from then on. Errors as AppendEvent's.
  absl::StatusOr<uint64_t> Finish(int64_t number, const v1::RunRecord& record,
                                  const v1::RunObservations& observations, int64_t unix_ms,
                                  const std::string& record_file = "") ABSL_LOCKS_EXCLUDED(mutex_);
  // The record file of this run is no longer due.
  absl::Status MarkFiled(int64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  struct DueFile {
    int64_t number;
    std::string record_file;
  };
  // Record files that are due, oldest run first; without those that a later run replaces.
  absl::StatusOr<std::vector<DueFile>> DueFiles() ABSL_LOCKS_EXCLUDED(mutex_);

  // At most `max` events from number `cursor` on. The `finished` event comes with its record.
  absl::StatusOr<std::vector<v1::RunEvent>> Events(int64_t number, uint64_t cursor, int max)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // NotFound names the run.
  absl::StatusOr<StoredRun> Get(int64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::RunSpec> Spec(int64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::RunRecord> Record(int64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  // FailedPrecondition when Prune has removed them.
  absl::StatusOr<v1::RunObservations> Observations(int64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  // The last finished run of `uid` with this RunRecord.fingerprint that ended as PASS or FAIL.
  absl::StatusOr<std::optional<int64_t>> FindKnown(uid_t uid, const std::string& fingerprint)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Newest first, from those before number `before` on; of all users when `uid` is unset.
  static constexpr int64_t kNewest = std::numeric_limits<int64_t>::max();
  absl::StatusOr<std::vector<StoredRun>> List(std::optional<uid_t> uid, int64_t before,
                                              size_t limit) ABSL_LOCKS_EXCLUDED(mutex_);
  // Queued and running runs, oldest first.
  absl::StatusOr<std::vector<StoredRun>> Unfinished() ABSL_LOCKS_EXCLUDED(mutex_);
  struct Limits {
    uint32_t runs;          // Finished ones.
    uint64_t budget_bytes;  // Of all runs.
    int64_t spared = 0;     // Number of the run that has just finished, for the budget.
  };
  // Removes the oldest finished runs of `uid` that are too many, and what is above the budget.
  absl::Status Prune(uid_t uid, const Limits& limits) ABSL_LOCKS_EXCLUDED(mutex_);
  // The bytes of the runs of `uid`, as Prune counts them.
  absl::StatusOr<uint64_t> Bytes(uid_t uid) ABSL_LOCKS_EXCLUDED(mutex_);
  // The part of it that Prune cannot free: of queued and running runs.
  absl::StatusOr<uint64_t> UnfinishedBytes(uid_t uid) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Statement;
  RunStore(sqlite3* db, std::string path) : db_(db), path_(std::move(path)) {}
  absl::Status Exec(const char* sql) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Statement> Prepare(const char* sql) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Begin(bool durable) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Commits when `status` is OK, else rolls back and returns `status`.
  absl::Status End(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CreateSchema() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Error(const char* what) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status InsertEvent(int64_t number, uint64_t place, v1::RunEvent event)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<StoredRun> GetLocked(int64_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::vector<StoredRun>> Rows(Statement* statement)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The message in the one blob that `sql` (with the run's number as parameter 1) yields.
  absl::Status ReadMessage(const char* sql, int64_t number, google::protobuf::MessageLite* out)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<int64_t> SubmitLocked(uid_t uid, const v1::RunSpec& spec, v1::RunEvent queued)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> AppendLocked(int64_t number, v1::RunEvent event)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status FinishLocked(int64_t number, const v1::RunRecord& record,
                            const v1::RunObservations& observations, const std::string& record_file)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Executes `sql`, which returns no row, with these integers as parameters.
  absl::Status Do(const char* sql, std::initializer_list<int64_t> values)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first column of the first row; 0 when there is none.
  absl::StatusOr<int64_t> One(const char* sql, std::initializer_list<int64_t> values)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Remove(int64_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Trim(int64_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::vector<int64_t>> Finished(const char* sql, uid_t uid, int64_t limit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> BytesLocked(uid_t uid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status PruneLocked(uid_t uid, const Limits& limits) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  base::Mutex mutex_;
  sqlite3* const db_ ABSL_PT_GUARDED_BY(mutex_);
  const std::string path_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_RUN_STORE_H_
