// SPDX-License-Identifier: Apache-2.0
//
// Kernel packages by the host's apt: its mirror, proxies, credentials and trust, but a state
// directory of our own, so that neither root is needed nor the host's package lists change. ktstrd
// calls it for `kernel fetch deb:PACKAGE`. Any thread; calls with one state directory wait for one
// another.

#ifndef KTSTR_CACHE_APT_FETCH_H_
#define KTSTR_CACHE_APT_FETCH_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ktstr::cache {

struct AptFetchOptions {
  std::string package;  // "linux-image-cloud-amd64", "linux-binary-7.3.4+deb13-cloud-amd64"
  std::vector<std::string>
      suites;             // Beyond the host's: "trixie-backports". Preferred over the host's.
  std::string state_dir;  // Made when missing; package lists are kept there.
  std::string dest_dir;   // Made when missing.
  std::function<void(const std::string&)> progress;  // Lines for the user; may be empty.
  std::function<bool()> cancelled;                   // Asked a few times a second; may be empty.
  // Tests only: the whole source list (one-line format) instead of the host's suites and `suites`.
  std::string sources_override;
};

// Paths of the .deb files in `dest_dir`: the package with the kernel image, and for linux-binary-*
// its linux-base-* with the configuration when there is one. A metapackage (linux-image-amd64) is
// followed to the kernel that it stands for. Errors, with apt's own words: NotFound (no such
// package; the nearest names are listed), Unavailable (mirror not reachable, file missing there),
// DataLoss (wrong size or hash), FailedPrecondition (full disk, no apt on this host, no mirror,
// signature not trusted), Cancelled.
absl::StatusOr<std::vector<std::string>> FetchPackages(const AptFetchOptions& options);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_APT_FETCH_H_
