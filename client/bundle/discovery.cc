// SPDX-License-Identifier: Apache-2.0
#include "client/bundle/discovery.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"

namespace ktstr::client {
namespace {

// Empty when `path` can be executed, else the reason.
std::string WhyNotExecutable(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return strerror(errno);
  if (S_ISDIR(st.st_mode)) return "is a directory";
  if (!S_ISREG(st.st_mode)) return "is not a regular file";
  // Root passes access(X_OK) on any file with one x bit; a file with none is not a program for
  // anyone.
  if (access(path.c_str(), X_OK) != 0) return "is not executable (chmod +x it)";
  return "";
}

absl::StatusOr<std::string> ExplicitPath(const std::string& name, const std::string& path,
                                         absl::string_view origin) {
  const std::string why = WhyNotExecutable(path);
  if (!why.empty())
    return absl::InvalidArgumentError(absl::StrCat(origin, " '", name, "': ", path, ": ", why));
  return path;
}

}  // namespace

std::vector<std::string> SearchDirectories(const DiscoveryPlaces& places) {
  std::vector<std::string> out;
  const auto add = [&out](const std::string& directory) {
    if (!directory.empty() && std::find(out.begin(), out.end(), directory) == out.end())
      out.push_back(directory);
  };
  if (!places.scenario_directory.empty()) {
    const std::string beside = base::JoinPath(places.working_directory, places.scenario_directory);
    add(beside == base::JoinPath(places.working_directory, ".") ? places.working_directory
                                                                : beside);
    add(std::string(base::Dirname(out.back())));
  }
  add(places.program_directory);
  for (const char* sub :
       {"build", "build/debug", "build/release", "target/debug", "target/release"}) {
    add(base::JoinPath(places.working_directory, sub));
  }
  const std::vector<std::string> path = absl::StrSplit(places.path, ':', absl::SkipEmpty());
  for (const std::string& directory : path) {
    add(base::JoinPath(places.working_directory, directory));
  }
  return out;
}

absl::StatusOr<std::string> FindScheduler(const std::string& name, const DiscoveryPlaces& places) {
  if (name.empty()) return absl::InvalidArgumentError("scheduler: the name is empty");
  if (absl::StrContains(name, '/')) {
    // A relative path in a scenario file means the same in every working directory.
    const std::string beside =
        base::JoinPath(base::JoinPath(places.working_directory, places.scenario_directory), name);
    if (!places.scenario_directory.empty() && WhyNotExecutable(beside).empty()) return beside;
    return ExplicitPath(name, base::JoinPath(places.working_directory, name), "scheduler");
  }
  if (!places.variable.empty()) {
    return ExplicitPath(places.variable, base::JoinPath(places.working_directory, places.variable),
                        "KTSTR_SCHEDULER");
  }
  std::string searched;
  for (const std::string& directory : SearchDirectories(places)) {
    const std::string path = base::JoinPath(directory, name);
    const std::string why = WhyNotExecutable(path);
    if (why.empty()) return path;
    absl::StrAppend(&searched, "\n  ", path,
                    why == strerror(ENOENT) ? "" : absl::StrCat(": ", why));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("scheduler '", name,
                   "' not found. Set KTSTR_SCHEDULER or\nplace it next to the scenario file or in ",
                   "target/{debug,release}/. Searched:\n  KTSTR_SCHEDULER (not set)", searched));
}

}  // namespace ktstr::client
