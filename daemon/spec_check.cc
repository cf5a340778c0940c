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

constexpr size_t kMaxReproductionBytes = 64 << 10;
constexpr size_t kMaxKernelBytes = 256;
constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxPathParts = 32;  // Each directory is an entry of the bundle.
constexpr size_t kMaxNameBytes = 255;

absl::Status Bad(const std::string& field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

// Empty: good.
std::string PathProblem(const std::string& path) {
  if (path.size() > kMaxPathBytes) {
    return absl::StrCat(path.size(), " bytes, at most ", kMaxPathBytes);
  }
  const std::string shown = absl::StrCat("'", base::PrintableTail(path, 1), "'");
  if (path.empty() || absl::StrContains(path, '\0')) {
    return absl::StrCat(shown, " is not a plain relative path");
  }
  const std::vector<std::string> parts = absl::StrSplit(path, '/');
  if (parts.size() > kMaxPathParts) {
    return absl::StrCat(parts.size(), " components, at most ", kMaxPathParts);
  }
  for (const std::string& part : parts) {
    if (part.empty() || part == "." || part == "..") {
      return absl::StrCat(shown, " is not a plain relative path");
    }
    if (part.size() > kMaxNameBytes) {
      return absl::StrCat("a component of ", part.size(), " bytes, at most ", kMaxNameBytes);
    }
  }
  return "";
}

absl::Status CheckFiles(const v1::RunSpec& spec) {
  if (spec.files_size() > kMaxFiles) {
    return Bad("files", absl::StrCat(spec.files_size(), " files, at most ", kMaxFiles));
  }
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
    if (file.size() > kMaxFileBytes) {
      return Bad(field + ".size", absl::StrCat(file.size(), " bytes, at most ", kMaxFileBytes));
    }
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
  if (spec.kernel().size() > kMaxKernelBytes) {
    return Bad("kernel", absl::StrCat(spec.kernel().size(), " bytes, at most ", kMaxKernelBytes));
  }
  KTSTR_RETURN_IF_ERROR(CheckFiles(spec));
  KTSTR_RETURN_IF_ERROR(CheckScheduler(spec));
  KTSTR_RETURN_IF_ERROR(CheckDelayProgram(spec));
  if (spec.timeout_ms() > kMaxTimeoutMs) {
    return Bad("timeout_ms", absl::StrCat(spec.timeout_ms(), ", at most ", kMaxTimeoutMs));
  }
  if (const size_t size = spec.reproduction().ByteSizeLong(); size > kMaxReproductionBytes) {
    return Bad("reproduction", absl::StrCat(size, " bytes, at most ", kMaxReproductionBytes));
  }
  if (!IsCommit(spec.project_commit())) {
    return Bad("project_commit", "neither 7 hex digits (with -dirty or without) nor 'unknown'");
  }
  if (!spec.run_source().empty() && spec.run_source() != "local" && spec.run_source() != "ci") {
    return Bad("run_source", "neither 'local' nor 'ci'");
  }
  return absl::OkStatus();
}

absl::Status CheckFileSizes(const v1::RunSpec& spec, const std::map<std::string, uint64_t>& sizes) {
  uint64_t total = 0;  // At most kMaxFiles times kMaxFileBytes: no overflow.
  for (int i = 0; i < spec.files_size(); ++i) {
    const v1::FileRef& file = spec.files(i);
    const uint64_t size = sizes.at(file.sha256());
    if (file.size() != size) {
      return Bad(absl::StrCat("files[", i, "].size"),
                 absl::StrCat(file.size(), ", but blob ", file.sha256(), " has ", size, " bytes"));
    }
    total += size;
  }
  if (total <= kMaxBundleBytes) return absl::OkStatus();
  return Bad("files", absl::StrCat(total, " bytes together, at most ", kMaxBundleBytes));
}

uint32_t TimeoutMs(const v1::RunSpec& spec) {
  if (spec.timeout_ms() != 0) return spec.timeout_ms();
  const uint64_t limit =
      120'000 +
      20 * uint64_t{std::min(scenario::DurationMs(spec.scenario()), uint32_t{3'600'000})} +
      scenario::AttachTimeoutMs(spec.scenario());
  return static_cast<uint32_t>(std::min<uint64_t>(limit, kMaxTimeoutMs));
}

}  // namespace ktstr::daemon
