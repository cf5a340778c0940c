// SPDX-License-Identifier: Apache-2.0
#include "daemon/sidecar.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/flock.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "scenario/json.h"

namespace ktstr::daemon {
namespace {

// One component of a path, whatever the client wrote.
std::string FileNamePart(std::string text) {
  if (text.size() > 64) text.resize(64);
  for (char& c : text) {
    if (!absl::ascii_isalnum(c) && c != '_' && c != '.' && c != '-' && c != '+') c = '_';
  }
  if (text.empty() || text[0] == '.') text.insert(0, "_");
  return text;
}

}  // namespace

std::string SidecarName(const v1::Scenario& scenario, const v1::RunRecord& record) {
  std::string name = FileNamePart(record.scenario());
  if (scenario.has_scheduler()) {
    absl::StrAppend(&name, "-", FileNamePart(record.scheduler().name()));
    base::Sha256 digest;
    for (const std::string& arg : scenario.scheduler().args()) {
      digest.Update(arg);
      digest.Update("\0", 1);
    }
    if (!scenario.scheduler().args().empty()) {
      absl::StrAppend(&name, "-", digest.FinishHex().substr(0, 8));
    }
  }
  absl::StrAppend(&name, "-", record.variant().topology(), "-", record.variant().engine(), "-s",
                  record.variant().seed());
  return name + ".ktstr.json";
}

std::string RunKey(const std::string& release, const std::string& project_commit) {
  return absl::StrCat(FileNamePart(release), "-",
                      project_commit.empty() ? "unknown" : project_commit);
}

absl::StatusOr<std::string> WriteSidecar(const std::string& runs_root, const std::string& user,
                                         const std::string& run_key, const v1::Scenario& scenario,
                                         const v1::RunRecord& record, absl::Duration patience) {
  KTSTR_ASSIGN_OR_RETURN(const std::string json, scenario::ToJson(record, /*pretty=*/true));
  const std::string locks = base::JoinPath(runs_root, ".locks");
  const std::string dir = absl::StrCat(runs_root, "/", FileNamePart(user), "/", run_key);
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(locks, 0755));
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(dir, 0755));
  KTSTR_ASSIGN_OR_RETURN(
      const base::FileLock lock,
      base::FileLock::Acquire(absl::StrCat(locks, "/", run_key, ".lock"),
                              base::LockMode::kExclusive, patience, "run-dir " + dir));
  const std::string path = base::JoinPath(dir, SidecarName(scenario, record));
  KTSTR_RETURN_IF_ERROR(base::WriteFileAtomic(path, json, 0644));
  return path;
}

}  // namespace ktstr::daemon
