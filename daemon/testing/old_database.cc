// SPDX-License-Identifier: Apache-2.0
#include "daemon/testing/old_database.h"

#include <sqlite3.h>

#include <vector>

#include "base/log.h"

namespace ktstr::daemon {
namespace {

void Insert(sqlite3* db, const char* text, const std::vector<std::string>& blobs) {
  sqlite3_stmt* statement = nullptr;
  KTSTR_CHECK(sqlite3_prepare_v2(db, text, -1, &statement, nullptr) == SQLITE_OK);
  for (size_t i = 0; i < blobs.size(); ++i) {
    sqlite3_bind_blob64(statement, static_cast<int>(i + 1), blobs[i].data(), blobs[i].size(),
                        SQLITE_TRANSIENT);
  }
  KTSTR_CHECK(sqlite3_step(statement) == SQLITE_DONE);
  sqlite3_finalize(statement);
}

// A database with this schema and these runs; `columns`: of a finished run, before its spec.
void Make(const std::string& path, const v1::RunSpec& spec, const char* schema,
          const std::string& columns) {
  v1::RunRecord record;
  record.set_verdict(v1::PASS);
  v1::RunEvent queued;
  queued.set_unix_ms(1000);
  queued.mutable_phase()->set_phase(v1::RunPhase::QUEUED);
  v1::RunEvent finished;
  finished.set_number(1);
  *finished.mutable_finished() = record;

  sqlite3* db = nullptr;
  KTSTR_CHECK(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  KTSTR_CHECK(sqlite3_exec(db, schema, nullptr, nullptr, nullptr) == SQLITE_OK);
  Insert(db, ("INSERT INTO runs VALUES(" + columns + ", ?, ?, x'')").c_str(),
         {spec.SerializeAsString(), record.SerializeAsString()});
  Insert(db, "INSERT INTO events VALUES(3, 0, ?)", {queued.SerializeAsString()});
  Insert(db, "INSERT INTO events VALUES(3, 1, ?)", {finished.SerializeAsString()});
  sqlite3_close(db);
}

}  // namespace

void MakeVersion1(const std::string& path, const v1::RunSpec& spec) {
  const char* schema =
      "PRAGMA journal_mode=WAL;"
      "CREATE TABLE runs("
      "  number INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL, state INTEGER NOT NULL,"
      "  verdict INTEGER NOT NULL DEFAULT 0, scenario TEXT NOT NULL,"
      "  submitted_ms INTEGER NOT NULL, events INTEGER NOT NULL DEFAULT 0, spec BLOB NOT NULL,"
      "  record BLOB, observations BLOB);"
      "CREATE INDEX runs_by_uid ON runs(uid, state, number);"
      "CREATE INDEX runs_unfinished ON runs(number) WHERE state < 2;"
      "CREATE TABLE events("
      "  run INTEGER NOT NULL, number INTEGER NOT NULL, event BLOB NOT NULL,"
      "  PRIMARY KEY(run, number)) WITHOUT ROWID;"
      "PRAGMA user_version = 1;"
      "INSERT INTO runs VALUES(9, 7, 0, 0, 'gone', 5, 0, x'', NULL, NULL);"
      "DELETE FROM runs WHERE number = 9;";
  Make(path, spec, schema, "3, 7, 2, 1, 'old', 5, 2");
}

void MakeVersion2(const std::string& path, const v1::RunSpec& spec) {
  const char* schema =
      "PRAGMA auto_vacuum=INCREMENTAL;"
      "PRAGMA journal_mode=WAL;"
      "CREATE TABLE runs("
      "  number INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL, state INTEGER NOT NULL,"
      "  verdict INTEGER NOT NULL DEFAULT 0, scenario TEXT NOT NULL, submitted_ms INTEGER NOT NULL,"
      "  events INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,"
      "  trimmed INTEGER NOT NULL DEFAULT 0, filed INTEGER NOT NULL DEFAULT 1, record_file TEXT,"
      "  spec BLOB NOT NULL, record BLOB, observations BLOB);"
      "CREATE INDEX runs_by_uid ON runs(uid, state, number, trimmed, bytes);"
      "CREATE INDEX runs_unfinished ON runs(number) WHERE state < 2;"
      "CREATE INDEX runs_unfiled ON runs(number) WHERE filed = 0;"
      "CREATE TABLE events("
      "  run INTEGER NOT NULL, number INTEGER NOT NULL, event BLOB NOT NULL,"
      "  PRIMARY KEY(run, number)) WITHOUT ROWID;"
      "PRAGMA user_version = 2;"
      "INSERT INTO runs VALUES(9, 7, 0, 0, 'gone', 5, 0, 0, 0, 1, NULL, x'', NULL, NULL);"
      "DELETE FROM runs WHERE number = 9;";
  Make(path, spec, schema, "3, 7, 2, 1, 'old', 5, 2, 900, 0, 1, NULL");
}

}  // namespace ktstr::daemon
