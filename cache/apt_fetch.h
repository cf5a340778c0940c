// SPDX-License-Identifier: Apache-2.0
//
// Fetches kernel packages with the host's apt: with its mirror, proxies, credentials and trust, but
// in a state directory of our own, so that it needs no root and leaves the host's package lists
// alone. cache/sources/deb.cc calls it. Any thread; calls with the same state directory wait for
// one another.

#ifndef KTSTR_CACHE_APT_FETCH_H_
#define KTSTR_CACHE_APT_FETCH_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ktstr::cache {

struct AptFetchOptions {
  std::string package;  // "linux-image-cloud-amd64", "linux-binary-7.3.4+deb13-cloud-amd64"
  // Besides the host's, and preferred over these: "trixie-backports".
  std::vector<std::string> suites;
  std::string state_dir;                             // For package lists; made when missing.
  std::string dest_dir;                              // Made when missing.
  std::function<void(const std::string&)> progress;  // Lines for the user; may be empty.
  std::function<bool()> cancelled;                   // Called a few times a second; may be empty.
  // Tests only: the whole source list (one-line format) instead of the host's suites and `suites`.
  std::string sources_override;
};

// Returns the paths of .deb files in `dest_dir`: the package with the kernel image, and for
// linux-binary-* its linux-base-* with the configuration when there is one. For a metapackage
// (linux-image-amd64) it fetches the kernel that the metapackage depends on. Errors, with apt's
// messages: NotFound (no such package; lists the nearest names), Unavailable (mirror unreachable,
// or without the file), DataLoss (wrong size or hash), FailedPrecondition (full disk, no apt on
// this host, no mirror, untrusted signature), InvalidArgument (bad name), Cancelled.
absl::StatusOr<std::vector<std::string>> FetchPackages(const AptFetchOptions& options);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_APT_FETCH_H_
