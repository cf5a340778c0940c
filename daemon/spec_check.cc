// SPDX-License-Identifier: Apache-2.0
#include "daemon/spec_check.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "scenario/perturb.h"
#include "scenario/plan.h"
#include "scenario/validate.h"

namespace ktstr::daemon {
namespace {

using scenario::AboveLimit;
using scenario::CheckLimit;
using scenario::LimitOf;

absl::Status Bad(const std::string& field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

// Empty: good.
std::string PathProblem(const std::string& path) {
  if (std::string problem = AboveLimit(LimitOf("FileRef.guest_path"), path.size());
      !problem.empty()) {
    return problem;
  }
  const std::string shown = absl::StrCat("'", base::PrintableTail(path, 1), "'");
  if (path.empty() || absl::StrContains(path, '\0')) {
    return absl::StrCat(shown, " is not a plain relative path");
  }
  const std::vector<std::string> parts = absl::StrSplit(path, '/');
  if (std::string problem = AboveLimit(LimitOf("FileRef.guest_path", "components"), parts.size());
      !problem.empty()) {
    return problem;
  }
  for (const std::string& part : parts) {
    if (part.empty() || part == "." || part == "..") {
      return absl::StrCat(shown, " is not a plain relative path");
    }
    if (std::string problem =
            AboveLimit(LimitOf("FileRef.guest_path", "bytes of a component"), part.size());
        !problem.empty()) {
      return problem;
    }
  }
  return "";
}

absl::Status CheckFiles(const v1::RunSpec& spec) {
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("RunSpec.files"), "files", spec.files_size()));
  std::set<std::string> paths = {"plan.pb"};
  for (int i = 0; i < spec.files_size(); ++i) {
    const v1::FileRef& file = spec.files(i);
    const std::string field = absl::StrCat("files[", i, "]");
    if (const std::string problem = PathProblem(file.guest_path()); !problem.empty()) {
      return Bad(field + ".guest_path", problem);
    }
    if (!paths.insert(file.guest_path()).second) {
      return Bad(field + ".guest_path", absl::StrCat("'", file.guest_path(), "' comes twice"));
    }
    if (!base::IsSha256Hex(file.sha256())) {
      return Bad(field + ".sha256", "not 64 lower-case hex digits");
    }
    KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("FileRef.size"), field + ".size", file.size()));
  }
  // A file cannot also be the directory of another one.
  for (const std::string& path : paths) {
    auto next = paths.lower_bound(path + "/");
    if (next != paths.end() && absl::StartsWith(*next, path + "/")) {
      return Bad("files",
                 absl::StrCat("'", path, "' is a file and the directory of '", *next, "'"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckScheduler(const v1::RunSpec& spec) {
  if (!spec.scenario().has_scheduler()) {
    if (spec.scheduler_path().empty()) return absl::OkStatus();
    return Bad("scheduler_path", "set, but the scenario names no scheduler");
  }
  for (const v1::FileRef& file : spec.files()) {
    if (file.guest_path() != spec.scheduler_path()) continue;
    if (file.executable()) return absl::OkStatus();
    return Bad("scheduler_path", absl::StrCat("'", spec.scheduler_path(), "' is not executable"));
  }
  return Bad("scheduler_path",
             absl::StrCat("'", spec.scheduler_path().substr(0, 128), "' is not among the files"));
}

absl::Status CheckDelayProgram(const v1::RunSpec& spec) {
  if (!scenario::HasDelayProbe(spec.scenario())) return absl::OkStatus();
  for (const v1::FileRef& file : spec.files()) {
    if (file.guest_path() == scenario::kDelayGuestPath && file.executable())
      return absl::OkStatus();
  }
  return Bad("files", absl::StrCat("the scenario has delay points, but there is no executable '",
                                   scenario::kDelayGuestPath, "'"));
}

absl::Status CheckReproduction(const v1::Reproduction& run) {
  KTSTR_RETURN_IF_ERROR(
      CheckLimit(LimitOf("RunSpec.reproduction"), "reproduction", run.ByteSizeLong()));
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("Reproduction.scheduler_args"),
                                   "reproduction.scheduler_args", run.scheduler_args_size()));
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("Reproduction.seed_forks"), "reproduction.seed_forks",
                                   run.seed_forks_size()));
  return CheckLimit(LimitOf("Reproduction.sets"), "reproduction.sets", run.sets_size());
}

// Becomes part of a directory's name.
bool IsCommit(const std::string& text) {
  if (text.empty() || text == "unknown") return true;
  const size_t digits = absl::EndsWith(text, "-dirty") ? text.size() - 6 : text.size();
  return digits == 7 && std::all_of(text.begin(), text.begin() + 7, [](char c) {
           return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

absl::Status CheckRunSpec(const v1::RunSpec& spec) {
  KTSTR_RETURN_IF_ERROR(scenario::ValidationStatus(spec.scenario()));
  if (!v1::Engine_IsValid(spec.engine())) {
    return Bad("engine", absl::StrCat(static_cast<int>(spec.engine()), " is no engine"));
  }
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("RunSpec.kernel"), "kernel", spec.kernel().size()));
  KTSTR_RETURN_IF_ERROR(CheckFiles(spec));
  KTSTR_RETURN_IF_ERROR(CheckScheduler(spec));
  KTSTR_RETURN_IF_ERROR(CheckDelayProgram(spec));
  KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("RunSpec.timeout_ms"), "timeout_ms", spec.timeout_ms()));
  KTSTR_RETURN_IF_ERROR(
      CheckLimit(LimitOf("RunSpec.vcpu_turn_us"), "vcpu_turn_us", spec.vcpu_turn_us()));
  KTSTR_RETURN_IF_ERROR(CheckReproduction(spec.reproduction()));
  if (!IsCommit(spec.project_commit())) {
    return Bad("project_commit", "neither 7 hex digits (with -dirty or without) nor 'unknown'");
  }
  if (!spec.run_source().empty() && spec.run_source() != "local" && spec.run_source() != "ci") {
    return Bad("run_source", "neither 'local' nor 'ci'");
  }
  return absl::OkStatus();
}

absl::Status CheckFileSizes(const v1::RunSpec& spec, const std::map<std::string, uint64_t>& sizes) {
  uint64_t total = 0;  // Of a checked spec: no overflow.
  for (int i = 0; i < spec.files_size(); ++i) {
    const v1::FileRef& file = spec.files(i);
    const uint64_t size = sizes.at(file.sha256());
    if (file.size() != size) {
      return Bad(absl::StrCat("files[", i, "].size"),
                 absl::StrCat(file.size(), ", but blob ", file.sha256(), " has ", size, " bytes"));
    }
    total += size;
  }
  return CheckLimit(LimitOf("RunSpec.files", "bytes together"), "files", total);
}

uint32_t TimeoutMs(const v1::RunSpec& spec) {
  if (spec.timeout_ms() != 0) return spec.timeout_ms();
  const uint64_t limit = 120'000 + 20 * uint64_t{scenario::DurationMs(spec.scenario())} +
                         scenario::AttachTimeoutMs(spec.scenario()) +
                         2 * uint64_t{scenario::RestartTimeoutMs(spec.scenario())};
  return static_cast<uint32_t>(std::min(limit, LimitOf("RunSpec.timeout_ms").max));
}

}  // namespace ktstr::daemon
