// SPDX-License-Identifier: Apache-2.0
//
// The source list of the private apt state, derived from what the host's own apt uses: its mirror,
// its components, its trust. Pure; used by FetchPackages. Any thread.

#ifndef KTSTR_CACHE_APT_SOURCES_H_
#define KTSTR_CACHE_APT_SOURCES_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ktstr::cache {

// One repository's suite and component, as `apt-get indextargets` tells it.
struct AptTarget {
  std::string uri;
  std::string suite;
  std::string component;
  std::string entry;  // Where it is configured: "/etc/apt/sources.list.d/debian.sources:2"
  std::string label;  // "Debian", "Debian-Security"; empty before the host's first update.
};

// For `apt-get indextargets --format kIndexTargetFormat "Created-By: Packages"`.
inline constexpr char kIndexTargetFormat[] =
    "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SOURCESENTRY)|$(LABEL)";
std::vector<AptTarget> ParseIndexTargets(std::string_view text);
// `listed`, and those of `configured` that it lacks: a host that never fetched package lists
// (container images) lists nothing, but has its sources configured all the same.
std::vector<AptTarget> MergeTargets(std::vector<AptTarget> listed,
                                    const std::vector<AptTarget>& configured);

// The Signed-By of an entry in a configuration file's text: `number` is the line of a .list file,
// the paragraph of a .sources file, from 1. Empty when it has none. A key that is written out is
// returned with its continuation lines.
std::string SignedByOf(std::string_view text, bool deb822, int number);

struct AptSourcesInput {
  std::vector<AptTarget> host;
  std::vector<std::string> suites;  // Beyond the host's.
  std::string archive_keyring;  // Of Debian's package debian-archive-keyring; empty when it is not
                                // installed.
  std::function<std::string(const std::string& entry)> signed_by;
};
// A deb822 source list (sources.list(5)) of the host's Debian or Ubuntu suites and `suites` on the
// host's Debian mirror. FailedPrecondition when suites are asked for and the host has no Debian
// mirror.
absl::StatusOr<std::string> MakeAptSources(const AptSourcesInput& input);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_APT_SOURCES_H_
