// SPDX-License-Identifier: Apache-2.0
#include "daemon/run_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace ktstr::daemon {
namespace {

constexpr int kSchemaVersion = 3;
constexpr int64_t kRowBytes = 128;  // Of a run or an event, besides its blobs.
constexpr int kVacuumPages = 1024;  // Given back to the file system after a removal: 4 MiB.

// `events` is the number of the next event, found without a search. `bytes` is the size of the run
// with its events. `record_file` is due while `filed` is 0. The small columns come
// first, so that reading them does not read the blobs; `fingerprint` is read from its index.
#define KTSTR_KNOWN_INDEX                                      \
  "CREATE INDEX runs_known ON runs(uid, fingerprint, verdict)" \
  "  WHERE fingerprint IS NOT NULL;"
#define KTSTR_RUNS_TABLE                                                                         \
  "CREATE TABLE runs("                                                                           \
  "  number INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL, state INTEGER NOT NULL,"    \
  "  verdict INTEGER NOT NULL DEFAULT 0, scenario TEXT NOT NULL, submitted_ms INTEGER NOT NULL," \
  "  events INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,"                       \
  "  trimmed INTEGER NOT NULL DEFAULT 0, filed INTEGER NOT NULL DEFAULT 1, record_file TEXT,"    \
  "  spec BLOB NOT NULL, record BLOB, observations BLOB, fingerprint TEXT);"                     \
  "CREATE INDEX runs_by_uid ON runs(uid, state, number, trimmed, bytes);"                        \
  "CREATE INDEX runs_unfinished ON runs(number) WHERE state < 2;"                                \
  "CREATE INDEX runs_unfiled ON runs(number) WHERE filed = 0;" KTSTR_KNOWN_INDEX

constexpr char kSchema[] = KTSTR_RUNS_TABLE
    "CREATE TABLE events("
    "  run INTEGER NOT NULL, number INTEGER NOT NULL, event BLOB NOT NULL,"
    "  PRIMARY KEY(run, number)) WITHOUT ROWID;"
    "PRAGMA user_version = 3;";

// Version 1 has neither sizes nor due files.
constexpr char kFromVersion1[] =
    "DROP INDEX runs_by_uid; DROP INDEX runs_unfinished;"
    "ALTER TABLE runs RENAME TO runs_1;" KTSTR_RUNS_TABLE
    "INSERT INTO runs(number, uid, state, verdict, scenario, submitted_ms, events, spec, record,"
    "  observations) SELECT number, uid, state, verdict, scenario, submitted_ms, events, spec,"
    "  record, observations FROM runs_1;"
    "UPDATE runs SET bytes = 128 + length(spec) + ifnull(length(record), 0) +"
    "  ifnull(length(observations), 0) +"
    "  (SELECT ifnull(sum(length(event) + 128), 0) FROM events WHERE run = runs.number);"
    "DELETE FROM sqlite_sequence WHERE name = 'runs';"
    "INSERT INTO sqlite_sequence SELECT 'runs', seq FROM sqlite_sequence WHERE name = 'runs_1';"
    "DROP TABLE runs_1;"
    "PRAGMA user_version = 3;";

// Version 2 has no fingerprints: its runs have none.
constexpr char kFromVersion2[] =
    "ALTER TABLE runs ADD COLUMN fingerprint TEXT;" KTSTR_KNOWN_INDEX "PRAGMA user_version = 3;";
#undef KTSTR_RUNS_TABLE
#undef KTSTR_KNOWN_INDEX

constexpr char kRunColumns[] = "number, uid, state, verdict, scenario, submitted_ms, events";

absl::Status NoSuchRun(int64_t number) {
  return absl::NotFoundError(absl::StrCat("no run ", RunId(number),
                                          "; 'ktstrctl results list' shows those that are kept"));
}

}  // namespace

std::string RunId(int64_t number) { return absl::StrFormat("r-%04d", number); }

std::optional<int64_t> ParseRunId(const std::string& id) {
  int64_t number = 0;
  if (id.size() > 20 || !absl::StartsWith(id, "r-") || !absl::SimpleAtoi(id.substr(2), &number) ||
      number < 1 || RunId(number) != id) {
    return std::nullopt;
  }
  return number;
}

std::string_view RunStateName(RunState state) {
  switch (state) {
    case RunState::kQueued:
      return "queued";
    case RunState::kRunning:
      return "running";
    case RunState::kFinished:
      return "finished";
  }
  return "unknown";
}

// A prepared statement with its parameters. Lives under the store's lock.
class RunStore::Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  Statement(Statement&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)) {}
  Statement& operator=(Statement&&) = delete;
  ~Statement() { sqlite3_finalize(statement_); }

  Statement& Bind(int index, int64_t value) {
    sqlite3_bind_int64(statement_, index, value);
    return *this;
  }
  Statement& Bind(int index, const std::string& text) {
    sqlite3_bind_text(statement_, index, text.data(), text.size(), SQLITE_TRANSIENT);
    return *this;
  }
  Statement& BindMessage(int index, const google::protobuf::MessageLite& message) {
    const std::string bytes = message.SerializeAsString();
    sqlite3_bind_blob64(statement_, index, bytes.data(), bytes.size(), SQLITE_TRANSIENT);
    return *this;
  }
  // SQLITE_ROW, SQLITE_DONE or an error.
  int Step() { return sqlite3_step(statement_); }
  int64_t Int(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string Text(int column) const {
    const auto* text = sqlite3_column_text(statement_, column);
    return text == nullptr ? std::string()
                           : std::string(reinterpret_cast<const char*>(text),
                                         sqlite3_column_bytes(statement_, column));
  }
  bool ParseBlob(int column, google::protobuf::MessageLite* out) const {
    const void* bytes = sqlite3_column_blob(statement_, column);
    return out->ParseFromArray(bytes, sqlite3_column_bytes(statement_, column));
  }
  bool IsNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

 private:
  sqlite3_stmt* statement_;
};

absl::StatusOr<std::unique_ptr<RunStore>> RunStore::Open(const std::string& path) {
  // SQLite would create the file with the umask's mode, but runs are private.
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd file,
                         base::Open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  file.Reset();
  sqlite3* db = nullptr;
  const int rc =
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<RunStore> store(new RunStore(db, path));
  base::MutexLock lock(&store->mutex_);
  if (rc != SQLITE_OK) return store->Error("open");
  sqlite3_busy_timeout(db, 10000);
  for (const char* setting : {"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA auto_vacuum=INCREMENTAL",
                              "PRAGMA journal_mode=WAL", "PRAGMA journal_size_limit=8388608"}) {
    KTSTR_RETURN_IF_ERROR(store->Exec(setting));
  }
  KTSTR_RETURN_IF_ERROR(store->CreateSchema());
  // Makes the names of the database and of its log durable.
  KTSTR_RETURN_IF_ERROR(base::FsyncDir(std::string(base::Dirname(path))));
  return store;
}

RunStore::~RunStore() {
  base::MutexLock lock(&mutex_);
  sqlite3_close_v2(db_);
}

absl::Status RunStore::Error(const char* what) const {
  const int rc = sqlite3_errcode(db_);
  const std::string text = absl::StrCat(path_, ": ", what, ": ", sqlite3_errmsg(db_));
  const int os_error = sqlite3_system_errno(db_);
  if (rc == SQLITE_FULL || (rc == SQLITE_IOERR && (os_error == ENOSPC || os_error == EDQUOT))) {
    return absl::FailedPreconditionError(
        absl::StrCat(text, "; free space on its file system, or set KTSTR_CACHE_DIR"));
  }
  if (rc == SQLITE_READONLY || rc == SQLITE_CANTOPEN || rc == SQLITE_PERM) {
    return absl::FailedPreconditionError(
        absl::StrCat(text, "; it must be writable, or set KTSTR_CACHE_DIR"));
  }
  if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB) {
    return absl::DataLossError(
        absl::StrCat(text, "; move it away: the next start makes a new one"));
  }
  return absl::InternalError(text);
}

absl::Status RunStore::Exec(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return Error(sql);
  return absl::OkStatus();
}

absl::StatusOr<RunStore::Statement> RunStore::Prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db_, sql, -1, &statement, nullptr) != SQLITE_OK) return Error(sql);
  return Statement(statement);
}

absl::Status RunStore::Begin(bool durable) {
  KTSTR_RETURN_IF_ERROR(Exec(durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"));
  return Exec("BEGIN IMMEDIATE");
}

absl::Status RunStore::End(absl::Status status) {
  if (status.ok()) status = Exec("COMMIT");
  if (!status.ok() && sqlite3_get_autocommit(db_) == 0) {
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
  }
  return status;
}

absl::Status RunStore::CreateSchema() {
  int64_t version = 0;
  {
    KTSTR_ASSIGN_OR_RETURN(Statement read, Prepare("PRAGMA user_version"));
    if (read.Step() != SQLITE_ROW) return Error("read the schema version");
    version = read.Int(0);
  }
  if (version == kSchemaVersion) return absl::OkStatus();
  if (version == 1) {
    KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/true));
    KTSTR_RETURN_IF_ERROR(End(Exec(kFromVersion1)));
    // Also enables auto_vacuum in a database made without it. On a full disk nothing is lost.
    if (absl::Status done = Exec("VACUUM"); !done.ok()) KTSTR_LOG(WARNING) << done;
    return absl::OkStatus();
  }
  if (version == 2) {
    KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/true));
    return End(Exec(kFromVersion2));
  }
  if (version != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": schema version ", version, ", this ktstrd has ", kSchemaVersion,
                     ": use the matching ktstr, or move the file away"));
  }
  KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/true));
  return End(Exec(kSchema));
}

absl::Status RunStore::Do(const char* sql, std::initializer_list<int64_t> values) {
  KTSTR_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  int index = 0;
  for (const int64_t value : values) statement.Bind(++index, value);
  return statement.Step() == SQLITE_DONE ? absl::OkStatus() : Error(sql);
}

absl::StatusOr<int64_t> RunStore::One(const char* sql, std::initializer_list<int64_t> values) {
  KTSTR_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  int index = 0;
  for (const int64_t value : values) statement.Bind(++index, value);
  const int rc = statement.Step();
  if (rc == SQLITE_DONE) return 0;
  if (rc != SQLITE_ROW) return Error(sql);
  return statement.Int(0);
}

absl::Status RunStore::InsertEvent(int64_t number, uint64_t place, v1::RunEvent event) {
  event.set_number(place);
  KTSTR_ASSIGN_OR_RETURN(Statement insert,
                         Prepare("INSERT INTO events(run, number, event) VALUES(?, ?, ?)"));
  insert.Bind(1, number).Bind(2, static_cast<int64_t>(place)).BindMessage(3, event);
  if (insert.Step() != SQLITE_DONE) return Error("store an event");
  return Do("UPDATE runs SET events = ?, bytes = bytes + ? WHERE number = ?",
            {static_cast<int64_t>(place + 1),
             static_cast<int64_t>(event.ByteSizeLong()) + kRowBytes, number});
}

absl::StatusOr<int64_t> RunStore::SubmitLocked(uid_t uid, const v1::RunSpec& spec,
                                               v1::RunEvent queued) {
  KTSTR_ASSIGN_OR_RETURN(Statement insert,
                         Prepare("INSERT INTO runs(uid, state, scenario, submitted_ms, spec, bytes)"
                                 " VALUES(?, 0, ?, ?, ?, ?)"));
  insert.Bind(1, int64_t{uid}).Bind(2, spec.scenario().name());
  insert.Bind(3, queued.unix_ms()).BindMessage(4, spec);
  insert.Bind(5, static_cast<int64_t>(spec.ByteSizeLong()) + kRowBytes);
  if (insert.Step() != SQLITE_DONE) return Error("store the run");
  const int64_t number = sqlite3_last_insert_rowid(db_);
  KTSTR_RETURN_IF_ERROR(InsertEvent(number, 0, std::move(queued)));
  return number;
}

absl::StatusOr<int64_t> RunStore::Submit(uid_t uid, const v1::RunSpec& spec, v1::RunEvent queued) {
  base::MutexLock lock(&mutex_);
  KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/true));
  absl::StatusOr<int64_t> number = SubmitLocked(uid, spec, std::move(queued));
  KTSTR_RETURN_IF_ERROR(End(number.status()));
  return number;
}

absl::Status RunStore::SetRunning(int64_t number) {
  base::MutexLock lock(&mutex_);
  KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/false));
  absl::StatusOr<Statement> update =
      Prepare("UPDATE runs SET state = 1 WHERE number = ? AND state = 0");
  if (!update.ok()) return End(update.status());
  update->Bind(1, number);
  absl::Status status =
      update->Step() == SQLITE_DONE ? absl::OkStatus() : Error("mark the run as running");
  if (status.ok() && sqlite3_changes(db_) != 1) {
    status = absl::FailedPreconditionError(absl::StrCat(RunId(number), " is not queued"));
  }
  return End(status);
}

absl::StatusOr<uint64_t> RunStore::AppendLocked(int64_t number, v1::RunEvent event) {
  KTSTR_ASSIGN_OR_RETURN(const StoredRun run, GetLocked(number));
  if (run.state == RunState::kFinished) {
    return absl::AlreadyExistsError(absl::StrCat(RunId(number), " has finished"));
  }
  KTSTR_RETURN_IF_ERROR(InsertEvent(number, run.events, std::move(event)));
  return run.events + 1;
}

absl::StatusOr<uint64_t> RunStore::AppendEvent(int64_t number, v1::RunEvent event) {
  base::MutexLock lock(&mutex_);
  KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/false));
  absl::StatusOr<uint64_t> count = AppendLocked(number, std::move(event));
  KTSTR_RETURN_IF_ERROR(End(count.status()));
  return count;
}

absl::Status RunStore::FinishLocked(int64_t number, const v1::RunRecord& record,
                                    const v1::RunObservations& observations,
                                    const std::string& record_file) {
  KTSTR_ASSIGN_OR_RETURN(
      Statement update,
      Prepare("UPDATE runs SET state = 2, verdict = ?, record = ?, observations = ?,"
              " bytes = bytes + ?, filed = ?, record_file = nullif(?, ''),"
              " fingerprint = nullif(?, '') WHERE number = ?"));
  update.Bind(1, int64_t{record.verdict()}).BindMessage(2, record).BindMessage(3, observations);
  update.Bind(4, static_cast<int64_t>(record.ByteSizeLong() + observations.ByteSizeLong()));
  update.Bind(5, int64_t{record_file.empty()}).Bind(6, record_file);
  update.Bind(7, record.fingerprint()).Bind(8, number);
  if (update.Step() != SQLITE_DONE) return Error("store the record");
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> RunStore::Finish(int64_t number, const v1::RunRecord& record,
                                          const v1::RunObservations& observations, int64_t unix_ms,
                                          const std::string& record_file) {
  // Only the column `record` holds the record; Events() adds it to this event.
  v1::RunEvent event;
  event.set_unix_ms(unix_ms);
  event.mutable_finished();
  base::MutexLock lock(&mutex_);
  KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/true));
  absl::StatusOr<uint64_t> count = AppendLocked(number, std::move(event));
  absl::Status status = count.status();
  if (status.ok()) status = FinishLocked(number, record, observations, record_file);
  KTSTR_RETURN_IF_ERROR(End(status));
  return count;
}

absl::Status RunStore::MarkFiled(int64_t number) {
  base::MutexLock lock(&mutex_);
  KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/false));
  return End(Do("UPDATE runs SET filed = 1 WHERE number = ?", {number}));
}

absl::StatusOr<std::vector<RunStore::DueFile>> RunStore::DueFiles() {
  base::MutexLock lock(&mutex_);
  KTSTR_ASSIGN_OR_RETURN(
      Statement read,
      Prepare("SELECT number, record_file FROM runs AS due WHERE filed = 0 AND NOT EXISTS"
              " (SELECT 1 FROM runs WHERE record_file = due.record_file AND number > due.number)"
              " ORDER BY number"));
  std::vector<DueFile> due;
  int rc;
  while ((rc = read.Step()) == SQLITE_ROW) due.push_back({read.Int(0), read.Text(1)});
  if (rc != SQLITE_DONE) return Error("read record files that are due");
  return due;
}

absl::StatusOr<std::vector<v1::RunEvent>> RunStore::Events(int64_t number, uint64_t cursor,
                                                           int max) {
  base::MutexLock lock(&mutex_);
  // No event has such a number: an empty result, not an error.
  if (cursor > static_cast<uint64_t>(INT64_MAX)) return std::vector<v1::RunEvent>();
  KTSTR_ASSIGN_OR_RETURN(
      Statement read,
      Prepare("SELECT event, (SELECT record FROM runs WHERE runs.number = run) FROM events"
              " WHERE run = ? AND number >= ? ORDER BY number LIMIT ?"));
  read.Bind(1, number).Bind(2, static_cast<int64_t>(cursor)).Bind(3, int64_t{max});
  std::vector<v1::RunEvent> events;
  int rc;
  while ((rc = read.Step()) == SQLITE_ROW) {
    v1::RunEvent& event = events.emplace_back();
    if (!read.ParseBlob(0, &event) ||
        (event.has_finished() && !read.ParseBlob(1, event.mutable_finished()))) {
      return absl::DataLossError(
          absl::StrCat(path_, ": an event of ", RunId(number), " is damaged"));
    }
  }
  if (rc != SQLITE_DONE) return Error("read events");
  return events;
}

absl::StatusOr<std::vector<StoredRun>> RunStore::Rows(Statement* statement) {
  std::vector<StoredRun> runs;
  int rc;
  while ((rc = statement->Step()) == SQLITE_ROW) {
    StoredRun& run = runs.emplace_back();
    run.number = statement->Int(0);
    run.uid = static_cast<uid_t>(statement->Int(1));
    run.state = static_cast<RunState>(statement->Int(2));
    run.verdict = static_cast<v1::Verdict>(statement->Int(3));
    run.scenario = statement->Text(4);
    run.submitted_ms = statement->Int(5);
    run.events = static_cast<uint64_t>(statement->Int(6));
  }
  if (rc != SQLITE_DONE) return Error("read runs");
  return runs;
}

absl::StatusOr<StoredRun> RunStore::GetLocked(int64_t number) {
  KTSTR_ASSIGN_OR_RETURN(
      Statement read,
      Prepare(absl::StrCat("SELECT ", kRunColumns, " FROM runs WHERE number = ?").c_str()));
  read.Bind(1, number);
  KTSTR_ASSIGN_OR_RETURN(std::vector<StoredRun> runs, Rows(&read));
  if (runs.empty()) return NoSuchRun(number);
  return std::move(runs[0]);
}

absl::StatusOr<StoredRun> RunStore::Get(int64_t number) {
  base::MutexLock lock(&mutex_);
  return GetLocked(number);
}

absl::Status RunStore::ReadMessage(const char* sql, int64_t number,
                                   google::protobuf::MessageLite* out) {
  base::MutexLock lock(&mutex_);
  KTSTR_ASSIGN_OR_RETURN(Statement read, Prepare(sql));
  read.Bind(1, number);
  const int rc = read.Step();
  if (rc == SQLITE_DONE) return NoSuchRun(number);
  if (rc != SQLITE_ROW) return Error("read a run");
  if (read.IsNull(0)) {
    KTSTR_ASSIGN_OR_RETURN(const StoredRun run, GetLocked(number));
    return absl::FailedPreconditionError(
        run.state == RunState::kFinished
            ? absl::StrCat("ktstrd removed the observations of ", RunId(number),
                           " to make room for later runs (run_budget_mb); run it again")
            : absl::StrCat(RunId(number), " has not finished"));
  }
  if (!read.ParseBlob(0, out)) {
    return absl::DataLossError(absl::StrCat(path_, ": ", RunId(number), " is damaged"));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::RunSpec> RunStore::Spec(int64_t number) {
  v1::RunSpec spec;
  KTSTR_RETURN_IF_ERROR(ReadMessage("SELECT spec FROM runs WHERE number = ?", number, &spec));
  return spec;
}

absl::StatusOr<v1::RunRecord> RunStore::Record(int64_t number) {
  v1::RunRecord record;
  KTSTR_RETURN_IF_ERROR(ReadMessage("SELECT record FROM runs WHERE number = ?", number, &record));
  return record;
}

absl::StatusOr<v1::RunObservations> RunStore::Observations(int64_t number) {
  v1::RunObservations observations;
  KTSTR_RETURN_IF_ERROR(
      ReadMessage("SELECT observations FROM runs WHERE number = ?", number, &observations));
  return observations;
}

absl::StatusOr<std::optional<int64_t>> RunStore::FindKnown(uid_t uid,
                                                           const std::string& fingerprint) {
  base::MutexLock lock(&mutex_);
  KTSTR_ASSIGN_OR_RETURN(Statement read,
                         Prepare("SELECT max(number) FROM runs WHERE uid = ? AND fingerprint = ?"
                                 " AND verdict IN (?, ?)"));
  read.Bind(1, int64_t{uid}).Bind(2, fingerprint);
  read.Bind(3, int64_t{v1::PASS}).Bind(4, int64_t{v1::FAIL});
  if (read.Step() != SQLITE_ROW) return Error("find a known run");
  if (read.IsNull(0)) return std::nullopt;
  return read.Int(0);
}

absl::StatusOr<std::vector<StoredRun>> RunStore::List(std::optional<uid_t> uid, int64_t before,
                                                      size_t limit) {
  base::MutexLock lock(&mutex_);
  const std::string of_user = uid.has_value() ? " AND uid = ?3" : "";
  KTSTR_ASSIGN_OR_RETURN(
      Statement read, Prepare(absl::StrCat("SELECT ", kRunColumns, " FROM runs WHERE number < ?2",
                                           of_user, " ORDER BY number DESC LIMIT ?1")
                                  .c_str()));
  read.Bind(1, static_cast<int64_t>(limit)).Bind(2, before);
  if (uid.has_value()) read.Bind(3, int64_t{*uid});
  return Rows(&read);
}

absl::StatusOr<std::vector<StoredRun>> RunStore::Unfinished() {
  base::MutexLock lock(&mutex_);
  KTSTR_ASSIGN_OR_RETURN(
      Statement read,
      Prepare(absl::StrCat("SELECT ", kRunColumns, " FROM runs WHERE state < 2 ORDER BY number")
                  .c_str()));
  return Rows(&read);
}

absl::StatusOr<std::vector<int64_t>> RunStore::Finished(const char* sql, uid_t uid, int64_t limit) {
  KTSTR_ASSIGN_OR_RETURN(Statement read, Prepare(sql));
  read.Bind(1, int64_t{uid}).Bind(2, limit);
  std::vector<int64_t> numbers;
  int rc;
  while ((rc = read.Step()) == SQLITE_ROW) numbers.push_back(read.Int(0));
  if (rc != SQLITE_DONE) return Error("find old runs");
  return numbers;
}

absl::Status RunStore::Remove(int64_t number) {
  KTSTR_RETURN_IF_ERROR(Do("DELETE FROM events WHERE run = ?", {number}));
  return Do("DELETE FROM runs WHERE number = ?", {number});
}

absl::Status RunStore::Trim(int64_t number) {
  KTSTR_RETURN_IF_ERROR(
      Do("DELETE FROM events WHERE run = ?1 AND"
         " number < (SELECT events - 1 FROM runs WHERE number = ?1)",
         {number}));
  return Do(
      "UPDATE runs SET trimmed = 1, observations = NULL,"
      " bytes = ?2 + length(spec) + ifnull(length(record), 0) +"
      " (SELECT ifnull(sum(length(event) + ?2), 0) FROM events WHERE run = ?1)"
      " WHERE number = ?1",
      {number, kRowBytes});
}

absl::StatusOr<uint64_t> RunStore::BytesLocked(uid_t uid) {
  KTSTR_ASSIGN_OR_RETURN(const int64_t bytes, One("SELECT ifnull(sum(bytes), 0) FROM runs"
                                                  " WHERE uid = ?",
                                                  {int64_t{uid}}));
  return static_cast<uint64_t>(bytes);
}

absl::StatusOr<uint64_t> RunStore::UnfinishedBytes(uid_t uid) {
  base::MutexLock lock(&mutex_);
  KTSTR_ASSIGN_OR_RETURN(const int64_t bytes, One("SELECT ifnull(sum(bytes), 0) FROM runs"
                                                  " WHERE uid = ? AND state < 2",
                                                  {int64_t{uid}}));
  return static_cast<uint64_t>(bytes);
}

absl::StatusOr<uint64_t> RunStore::Bytes(uid_t uid) {
  base::MutexLock lock(&mutex_);
  return BytesLocked(uid);
}

absl::Status RunStore::PruneLocked(uid_t uid, const Limits& limits) {
  KTSTR_ASSIGN_OR_RETURN(
      const std::vector<int64_t> beyond,
      Finished("SELECT number FROM runs WHERE uid = ? AND state = 2 ORDER BY number DESC"
               " LIMIT -1 OFFSET ?",
               uid, limits.runs));
  for (const int64_t number : beyond) {
    if (number != limits.spared) KTSTR_RETURN_IF_ERROR(Remove(number));
  }
  for (const bool whole : {true, false}) {
    KTSTR_ASSIGN_OR_RETURN(uint64_t total, BytesLocked(uid));
    if (total <= limits.budget_bytes) break;
    const std::string sql =
        absl::StrCat("SELECT number FROM runs WHERE uid = ? AND state = 2 AND number != ?",
                     whole ? " AND trimmed = 0" : "", " ORDER BY number");
    KTSTR_ASSIGN_OR_RETURN(const std::vector<int64_t> numbers,
                           Finished(sql.c_str(), uid, limits.spared));
    for (const int64_t number : numbers) {
      if (total <= limits.budget_bytes) break;
      KTSTR_RETURN_IF_ERROR(whole ? Trim(number) : Remove(number));
      KTSTR_ASSIGN_OR_RETURN(total, BytesLocked(uid));
    }
  }
  return absl::OkStatus();
}

absl::Status RunStore::Prune(uid_t uid, const Limits& limits) {
  base::MutexLock lock(&mutex_);
  KTSTR_RETURN_IF_ERROR(Begin(/*durable=*/false));
  const int before = sqlite3_total_changes(db_);
  KTSTR_RETURN_IF_ERROR(End(PruneLocked(uid, limits)));
  if (sqlite3_total_changes(db_) == before) return absl::OkStatus();
  return Exec(absl::StrCat("PRAGMA incremental_vacuum(", kVacuumPages, ")").c_str());
}

}  // namespace ktstr::daemon
