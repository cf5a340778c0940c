// SPDX-License-Identifier: Apache-2.0
#include "daemon/record_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "scenario/json.h"
#include "scenario/record.h"

namespace ktstr::daemon {
namespace {

constexpr char kLocksDir[] = ".locks";
constexpr absl::string_view kStagedSuffix = ".staged";

absl::Status WriteStaged(const std::string& path, const std::string& text) {
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd,
                         base::Open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
  KTSTR_RETURN_IF_ERROR(base::WriteAll(fd.get(), text, path));
  if (fsync(fd.get()) != 0) return base::ErrnoStatus(errno, absl::StrCat("fsync ", path));
  return absl::OkStatus();
}

}  // namespace

StagedRecord::StagedRecord(StagedRecord&& other) noexcept
    : staged_(std::exchange(other.staged_, {})),
      path_(std::move(other.path_)),
      lock_(std::move(other.lock_)) {}

StagedRecord::~StagedRecord() {
  if (!staged_.empty()) unlink(staged_.c_str());
}

absl::Status StagedRecord::Publish() {
  if (rename(staged_.c_str(), path_.c_str()) != 0) {
    return base::ErrnoStatus(errno, absl::StrCat("rename ", staged_, " to ", path_));
  }
  staged_.clear();
  return base::FsyncDir(std::string(base::Dirname(path_)));
}

absl::Status RecordFiles::Clean() const {
  const auto names = [](const std::string& dir) {
    return base::ListDir(dir).value_or(std::vector<std::string>());
  };
  for (const std::string& user : names(runs_root_)) {
    const std::string user_dir = base::JoinPath(runs_root_, user);
    for (const std::string& run_key : names(user_dir)) {
      const std::string dir = base::JoinPath(user_dir, run_key);
      for (const std::string& name : names(dir)) {
        if (!absl::EndsWith(name, kStagedSuffix)) continue;
        KTSTR_RETURN_IF_ERROR(base::RemoveAll(base::JoinPath(dir, name)));
      }
    }
  }
  return absl::OkStatus();
}

std::string RecordFiles::PathOf(const std::string& user, const std::string& release,
                                const v1::RunRecord& record) {
  const std::string commit = record.project_commit().empty() ? "unknown" : record.project_commit();
  return absl::StrCat(scenario::FileNamePart(user), "/", scenario::FileNamePart(release), "-",
                      scenario::FileNamePart(commit), "/", scenario::RecordFileName(record));
}

absl::StatusOr<StagedRecord> RecordFiles::Stage(const std::string& path,
                                                const v1::RunRecord& record) const {
  KTSTR_ASSIGN_OR_RETURN(const std::string json, scenario::ToJson(record, /*pretty=*/true));
  const std::string full = base::JoinPath(runs_root_, path);
  const std::string dir(base::Dirname(full));
  const std::string locks = base::JoinPath(runs_root_, kLocksDir);
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(locks, 0755));
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(dir, 0755));
  KTSTR_ASSIGN_OR_RETURN(
      base::FileLock lock,
      base::FileLock::Acquire(absl::StrCat(locks, "/", base::ToAbsl(base::Basename(dir)), ".lock"),
                              base::LockMode::kExclusive, patience_, "run-dir " + dir));
  StagedRecord staged(absl::StrCat(dir, "/.", record.run_id(), kStagedSuffix), full,
                      std::move(lock));
  KTSTR_RETURN_IF_ERROR(WriteStaged(staged.staged_, json));
  return staged;
}

}  // namespace ktstr::daemon
