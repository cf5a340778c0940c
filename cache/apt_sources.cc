// SPDX-License-Identifier: Apache-2.0
#include "cache/apt_sources.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/string_view.h"

namespace ktstr::cache {
namespace {

// Leaves out third-party repositories: they have no kernels for us.
bool IsDistribution(const AptTarget& target) {
  if (target.suite.empty() || absl::EndsWith(target.suite, "/") || target.component.empty()) {
    return false;
  }
  if (!target.label.empty()) {
    return absl::StartsWith(target.label, "Debian") || absl::StartsWith(target.label, "Ubuntu");
  }
  return absl::StrContains(target.uri, "/debian") || absl::StrContains(target.uri, "/ubuntu");
}

bool IsDebianMirror(const AptTarget& target) {
  if (!IsDistribution(target)) return false;
  if (!target.label.empty()) return target.label == "Debian";
  return absl::StrContains(target.uri, "/debian") && !absl::StrContains(target.uri, "security");
}

std::string Stanza(const std::string& uri, absl::string_view suites, absl::string_view components,
                   const std::string& signed_by) {
  std::string stanza = absl::StrCat("Types: deb\nURIs: ", uri, "\nSuites: ", suites,
                                    "\nComponents: ", components, "\nArchitectures: amd64\n");
  if (!signed_by.empty()) absl::StrAppend(&stanza, "Signed-By: ", signed_by, "\n");
  return absl::StrCat(stanza, "\n");
}

// The value of "signed-by" in the brackets of "deb [signed-by=PATH arch=amd64] URI SUITE ...".
std::string SignedByOfLine(absl::string_view line) {
  size_t open = line.find('[');
  size_t close = line.find(']');
  if (open == absl::string_view::npos || close == absl::string_view::npos || close < open)
    return "";
  for (absl::string_view option :
       absl::StrSplit(line.substr(open + 1, close - open - 1), ' ', absl::SkipEmpty())) {
    if (absl::ConsumePrefix(&option, "signed-by=")) return std::string(option);
  }
  return "";
}

std::string SignedByOfParagraph(const std::vector<absl::string_view>& lines) {
  std::string value;
  bool inside = false;
  for (absl::string_view line : lines) {
    if (inside && !line.empty() && (line[0] == ' ' || line[0] == '\t')) {
      absl::StrAppend(&value, "\n", line);
      continue;
    }
    inside = false;
    size_t colon = line.find(':');
    if (colon == absl::string_view::npos ||
        !absl::EqualsIgnoreCase(line.substr(0, colon), "signed-by")) {
      continue;
    }
    value = std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    inside = true;
  }
  return value;
}

}  // namespace

std::vector<AptTarget> ParseIndexTargets(std::string_view text) {
  std::vector<AptTarget> targets;
  for (absl::string_view line : absl::StrSplit(base::ToAbsl(text), '\n', absl::SkipEmpty())) {
    std::vector<std::string> parts = absl::StrSplit(line, '|');
    if (parts.size() != 5) continue;
    // apt prints a field that it does not know unchanged.
    for (std::string& part : parts) {
      if (absl::StartsWith(part, "$(")) part.clear();
    }
    targets.push_back({parts[0], parts[1], parts[2], parts[3], parts[4]});
  }
  return targets;
}

std::vector<AptTarget> MergeTargets(std::vector<AptTarget> listed,
                                    const std::vector<AptTarget>& configured) {
  for (const AptTarget& target : configured) {
    auto same = [&](const AptTarget& other) {
      return other.uri == target.uri && other.suite == target.suite &&
             other.component == target.component;
    };
    if (std::none_of(listed.begin(), listed.end(), same)) listed.push_back(target);
  }
  return listed;
}

std::string SignedByOf(std::string_view text, bool deb822, int number) {
  std::vector<absl::string_view> paragraph;
  int at = 0;
  bool in_paragraph = false;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(base::ToAbsl(text), '\n')) {
    ++line_number;
    if (!deb822) {
      if (line_number == number) return SignedByOfLine(line);
      continue;
    }
    if (absl::StartsWith(line, "#")) continue;
    if (absl::StripAsciiWhitespace(line).empty()) {
      in_paragraph = false;
      continue;
    }
    if (!std::exchange(in_paragraph, true)) ++at;
    if (at == number) paragraph.push_back(line);
  }
  return SignedByOfParagraph(paragraph);
}

absl::StatusOr<std::string> MakeAptSources(const AptSourcesInput& input) {
  std::string sources;
  const AptTarget* mirror = nullptr;
  std::vector<std::string> mirror_components;
  std::vector<std::string> host_suites;
  // (URI, suite, Signed-By) -> components
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> suites;
  std::map<std::pair<std::string, std::string>, std::string> entries;
  for (const AptTarget& target : input.host) {
    if (!IsDistribution(target)) continue;
    auto key = std::pair(target.uri, target.suite);
    suites[key].push_back(target.component);
    entries.emplace(key, target.entry);
    host_suites.push_back(target.suite);
    if (!IsDebianMirror(target)) continue;
    if (mirror == nullptr) mirror = &target;
    if (target.uri == mirror->uri && std::find(mirror_components.begin(), mirror_components.end(),
                                               target.component) == mirror_components.end()) {
      mirror_components.push_back(target.component);
    }
  }
  for (auto& [key, components] : suites) {
    std::sort(components.begin(), components.end());
    components.erase(std::unique(components.begin(), components.end()), components.end());
    absl::StrAppend(&sources, Stanza(key.first, key.second, absl::StrJoin(components, " "),
                                     input.signed_by(entries[key])));
  }
  std::vector<std::string> extra;
  for (const std::string& suite : input.suites) {
    if (std::find(host_suites.begin(), host_suites.end(), suite) == host_suites.end()) {
      extra.push_back(suite);
    }
  }
  if (extra.empty()) return sources;
  if (mirror == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the host's apt configuration names no Debian mirror (see `apt-get indextargets "
        "--no-release-info`), so that the suites ",
        absl::StrJoin(extra, ", "),
        " cannot be looked up. Download a kernel package and run `ktstrctl kernel import "
        "FILE.deb`."));
  }
  // The host's release may have other keys than another release; the archive's keyring has all
  // keys.
  std::string signed_by =
      input.archive_keyring.empty() ? input.signed_by(mirror->entry) : input.archive_keyring;
  return absl::StrCat(sources, Stanza(mirror->uri, absl::StrJoin(extra, " "),
                                      absl::StrJoin(mirror_components, " "), signed_by));
}

}  // namespace ktstr::cache
