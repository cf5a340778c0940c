// SPDX-License-Identifier: Apache-2.0
//
// Where kernels can be fetched from. A source is one file, cache/sources/NAME.cc, and one line in
// the table of kernel_source.cc; ktstrd finds it by the prefix of what the user writes:
// `kernel fetch deb:linux-image-cloud-amd64`. A source brings files; what is in them, and under
// which key it is kept, KernelCache::Import finds out. Any thread; calls of Obtain with one state
// directory do not overlap.

#ifndef KTSTR_CACHE_KERNEL_SOURCE_H_
#define KTSTR_CACHE_KERNEL_SOURCE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ktstr::cache {

struct FetchRequest {
  std::string what;                 // After the prefix: "linux-image-cloud-amd64".
  std::vector<std::string> suites;  // Suites of a distribution to look in besides the host's.
  std::string state_dir;            // Kept between fetches; made when missing.
  std::string dest_dir;             // Made when missing; the caller removes it.
  std::function<void(const std::string&)> progress;  // Lines for the user.
  std::function<bool()> cancelled;                   // Asked a few times a second.
};

class KernelSource {
 public:
  virtual ~KernelSource() = default;
  virtual const char* prefix() const = 0;   // "deb"
  virtual const char* usage() const = 0;    // "deb:PACKAGE"
  virtual const char* example() const = 0;  // "deb:linux-image-cloud-amd64"
  // InvalidArgument when the request cannot be right. Without network or disk.
  virtual absl::Status Check(const FetchRequest& request) const = 0;
  // Paths of files in `request.dest_dir` that KernelCache::Import takes together: one kernel. Of a
  // request that Check accepts. Errors as in apt_fetch.h.
  virtual absl::StatusOr<std::vector<std::string>> Obtain(const FetchRequest& request) const = 0;
};

// The source that `text` names by its prefix. InvalidArgument, with what can be written, when none
// has it. Lives for ever.
absl::StatusOr<const KernelSource*> FindKernelSource(const std::string& text);
// `text` without the prefix.
std::string WithoutPrefix(const KernelSource& source, const std::string& text);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_SOURCE_H_
