// SPDX-License-Identifier: Apache-2.0
//
// Sources of kernels. A source is one file, cache/sources/NAME.cc, and one line in the table of
// kernel_source.cc; ktstrd finds it by the prefix that the user writes: `kernel fetch
// deb:linux-image-cloud-amd64`. A source fetches files; KernelCache::Import recognizes their
// content and makes the key. Any thread; calls of Obtain with the same state directory wait for one
// another.

#ifndef KTSTR_CACHE_KERNEL_SOURCE_H_
#define KTSTR_CACHE_KERNEL_SOURCE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ktstr::cache {

struct FetchRequest {
  std::string what;                                  // After the prefix: "linux-image-cloud-amd64".
  std::vector<std::string> suites;                   // Of the distribution, besides the host's.
  std::string state_dir;                             // Stays between fetches; made when missing.
  std::string dest_dir;                              // Made when missing; the caller removes it.
  std::function<void(const std::string&)> progress;  // Lines for the user.
  std::function<bool()> cancelled;                   // Called a few times a second.
};

class KernelSource {
 public:
  virtual ~KernelSource() = default;
  virtual const char* prefix() const = 0;   // "deb"
  virtual const char* usage() const = 0;    // "deb:PACKAGE"
  virtual const char* example() const = 0;  // "deb:linux-image-cloud-amd64"
  // InvalidArgument for a malformed request. Uses neither network nor disk.
  virtual absl::Status Check(const FetchRequest& request) const = 0;
  // Fetches one kernel and returns the paths of its files in `request.dest_dir`, for one call of
  // KernelCache::Import. Check accepts the request. Errors as in apt_fetch.h.
  virtual absl::StatusOr<std::vector<std::string>> Obtain(const FetchRequest& request) const = 0;
};

// The source whose prefix `text` has; it is never deleted. InvalidArgument with the known sources
// when there is none.
absl::StatusOr<const KernelSource*> FindKernelSource(const std::string& text);
// `text` without the prefix.
std::string WithoutPrefix(const KernelSource& source, const std::string& text);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_SOURCE_H_
