// SPDX-License-Identifier: Apache-2.0
#include "client/scenario_source.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/string_view.h"
#include "scenario/canned.h"
#include "scenario/parse.h"

namespace ktstr::client {
namespace {

constexpr absl::string_view kSuffix = ".ktstr.txtpb";
// Well above the limit of the parser, 1 MiB, so that the parser refuses a large file.
constexpr size_t kReadLimit = size_t{64} << 20;

void AddText(absl::string_view text, const std::string& argument, const std::string& directory,
             SourcedScenarios* out) {
  scenario::ParseResult parsed = scenario::ParseScenario(base::ToStd(text), argument);
  for (const scenario::Problem& problem : parsed.problems)
    out->problems.push_back(problem.ToString());
  if (parsed.problems.empty())
    out->scenarios.push_back({std::move(parsed.scenario), argument, directory});
}

void AddFile(const std::string& path, SourcedScenarios* out) {
  absl::StatusOr<std::string> text = base::ReadFile(path, kReadLimit);
  if (!text.ok()) {
    out->problems.push_back(std::string(text.status().message()));
    return;
  }
  AddText(*text, path, std::string(base::Dirname(path)), out);
}

void AddDirectory(const std::string& path, SourcedScenarios* out) {
  std::vector<std::string> files;
  std::error_code error;
  std::filesystem::recursive_directory_iterator it(path, error), end;
  for (; !error && it != end; it.increment(error)) {
    if (it->is_regular_file(error) && absl::EndsWith(it->path().native(), kSuffix))
      files.push_back(it->path());
  }
  if (error) {
    out->problems.push_back(absl::StrCat(path, ": ", error.message()));
  } else if (files.empty()) {
    out->problems.push_back(
        absl::StrCat(path, ": directory holds no scenario file (*", kSuffix, ")"));
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) AddFile(file, out);
}

void AddCanned(const std::string& name, SourcedScenarios* out) {
  const scenario::CannedScenario* canned = scenario::FindCanned(name);
  if (canned != nullptr) {
    AddText(base::ToAbsl(canned->text), name, "", out);
  } else if (absl::StrContains(name, '/') || absl::EndsWith(name, ".txtpb")) {
    out->problems.push_back(absl::StrCat(name, ": no such file or directory"));
  } else {
    out->problems.push_back(
        absl::StrCat("unknown scenario '", name,
                     "': neither a file or directory of that name nor a canned scenario (see "
                     "`ktstrctl list scenarios`)"));
  }
}

}  // namespace

SourcedScenarios LoadScenarios(const std::vector<std::string>& arguments) {
  SourcedScenarios out;
  for (const std::string& argument : arguments) {
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::status(argument, error);
    if (std::filesystem::is_directory(status)) {
      AddDirectory(argument, &out);
    } else if (std::filesystem::is_regular_file(status)) {
      AddFile(argument, &out);
    } else if (std::filesystem::exists(status)) {
      out.problems.push_back(absl::StrCat(argument, ": not a regular file or directory"));
    } else {
      AddCanned(argument, &out);
    }
  }
  return out;
}

}  // namespace ktstr::client
