// SPDX-License-Identifier: Apache-2.0
//
// Run records as files: RUNS_ROOT/USER/{kernel}-{commit}/NAME.ktstr.json (scenario/record.h has the
// names). The database is authoritative (run_store.h); a file is a copy that the end of its run
// writes in three steps:
//
//   1. Stage: the copy is written and synced beside its place, as ".r-0193.staged". A lack of space
//      or permission shows here, while the run can still report it.
//   2. RunStore::Finish: the record, and that its file is due, in one transaction.
//   3. Publish: the copy gets its name; then RunStore::MarkFiled.
//
// When the daemon is killed at any step, the next one finds either no end and no file of the run,
// or the end and a file that is due, and writes that file again. Any thread; one process (the
// daemon's lock).

#ifndef KTSTR_DAEMON_RECORD_FILES_H_
#define KTSTR_DAEMON_RECORD_FILES_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/flock.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::daemon {

// A copy that waits for its name. The destructor removes it when it did not get one.
class StagedRecord {
 public:
  StagedRecord(StagedRecord&& other) noexcept;
  StagedRecord& operator=(StagedRecord&&) = delete;
  ~StagedRecord();
  // Replaces the record of an earlier run of the same variant. Once.
  absl::Status Publish();

 private:
  friend class RecordFiles;
  StagedRecord(std::string staged, std::string path, base::FileLock lock)
      : staged_(std::move(staged)), path_(std::move(path)), lock_(std::move(lock)) {}

  std::string staged_;  // Empty once it is published.
  std::string path_;
  base::FileLock lock_;
};

class RecordFiles {
 public:
  // `patience`: how long Stage waits for the lock of a directory.
  explicit RecordFiles(std::string runs_root, absl::Duration patience = absl::Seconds(30))
      : runs_root_(std::move(runs_root)), patience_(patience) {}

  // Removes what a killed daemon staged, in every run directory.
  absl::Status Clean() const;

  // Path below RUNS_ROOT: "anna/7.3.4+deb13-cloud-amd64-0123abc/NAME.ktstr.json". `release` is the
  // kernel's uname -r.
  static std::string PathOf(const std::string& user, const std::string& release,
                            const v1::RunRecord& record);

  // Under the lock RUNS_ROOT/.locks/{kernel}-{commit}.lock, held until the copy is published or
  // dropped. DeadlineExceeded with the lock's holders; FailedPrecondition or ResourceExhausted when
  // the file cannot be written. `path` is PathOf's.
  absl::StatusOr<StagedRecord> Stage(const std::string& path, const v1::RunRecord& record) const;

 private:
  const std::string runs_root_;
  const absl::Duration patience_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_RECORD_FILES_H_
