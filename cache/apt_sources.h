// SPDX-License-Identifier: Apache-2.0
//
// Derives the source list of the private apt state from the host's apt: its mirror, components and
// trust. Pure; FetchPackages uses it. Any thread.

#ifndef KTSTR_CACHE_APT_SOURCES_H_
#define KTSTR_CACHE_APT_SOURCES_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ktstr::cache {

// Suite and component of a repository, from `apt-get indextargets`.
struct AptTarget {
  std::string uri;
  std::string suite;
  std::string component;
  std::string entry;  // Its place in the configuration: "/etc/apt/sources.list.d/debian.sources:2"
  std::string label;  // "Debian", "Debian-Security"; empty before the host's first update.
};

// Format and parser of `apt-get indextargets --format kIndexTargetFormat "Created-By: Packages"`.
inline constexpr char kIndexTargetFormat[] =
    "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SOURCESENTRY)|$(LABEL)";
std::vector<AptTarget> ParseIndexTargets(std::string_view text);
// `listed`, plus targets of `configured` that it lacks: a host that never fetched package lists (a
// container image) lists nothing, although its sources are configured.
std::vector<AptTarget> MergeTargets(std::vector<AptTarget> listed,
                                    const std::vector<AptTarget>& configured);

// The Signed-By of an entry in the text of a configuration file: `number` is the line of a .list
// file or the paragraph of a .sources file, from 1. Empty: none. A key in the text itself comes
// with its continuation lines.
std::string SignedByOf(std::string_view text, bool deb822, int number);

struct AptSourcesInput {
  std::vector<AptTarget> host;
  std::vector<std::string> suites;  // Besides the host's.
  std::string archive_keyring;      // Of the package debian-archive-keyring; empty: not there.
  std::function<std::string(const std::string& entry)> signed_by;
};
// A deb822 source list (sources.list(5)) with the host's Debian or Ubuntu suites, and `suites` on
// the host's Debian mirror. FailedPrecondition when `suites` has others than the host's and the
// host has no Debian mirror.
absl::StatusOr<std::string> MakeAptSources(const AptSourcesInput& input);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_APT_SOURCES_H_
