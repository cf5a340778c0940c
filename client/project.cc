// SPDX-License-Identifier: Apache-2.0
#include "client/project.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/subprocess.h"

namespace ktstr::client {
namespace {

std::optional<std::string> Git(const std::string& directory, std::vector<std::string> args) {
  base::SpawnOptions options;
  options.argv = {"git", "-C", directory};
  options.argv.insert(options.argv.end(), args.begin(), args.end());
  absl::StatusOr<base::RunResult> result = base::RunCommand(std::move(options), absl::Seconds(10));
  if (!result.ok() || !result->status.Success()) return std::nullopt;
  return std::string(absl::StripAsciiWhitespace(result->out));
}

}  // namespace

std::string ProjectCommit(const std::string& directory) {
  const std::optional<std::string> commit =
      Git(directory, {"rev-parse", "--verify", "--quiet", "HEAD"});
  if (!commit || commit->size() < 7) return "unknown";
  const std::optional<std::string> changes =
      Git(directory, {"status", "--porcelain", "--untracked-files=no"});
  return absl::StrCat(commit->substr(0, 7), changes && !changes->empty() ? "-dirty" : "");
}

}  // namespace ktstr::client
