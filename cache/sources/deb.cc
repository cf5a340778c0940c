// SPDX-License-Identifier: Apache-2.0
//
// deb:PACKAGE: fetches a kernel package of the distribution with the host's apt.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "cache/apt_fetch.h"
#include "cache/kernel_source.h"
#include "scenario/limits.h"

namespace ktstr::cache {
namespace {

using scenario::CheckLimit;
using scenario::LimitOf;

// Debian Policy 5.6.1, also for names of suites.
bool IsDebianName(const std::string& text) {
  return text.size() >= 2 && (absl::ascii_islower(text[0]) || absl::ascii_isdigit(text[0])) &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '+' || c == '-' ||
                  c == '.';
         });
}

class Deb : public KernelSource {
 public:
  const char* prefix() const override { return "deb"; }
  const char* usage() const override { return "deb:PACKAGE"; }
  const char* example() const override { return "deb:linux-image-cloud-amd64"; }

  absl::Status Check(const FetchRequest& request) const override {
    if (!IsDebianName(request.what)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "source 'deb:", base::SanitizeUtf8(request.what),
          "': not the name of a Debian package (lower-case letters, digits and \"+-.\"). Write ",
          usage(), ", as ", example()));
    }
    KTSTR_RETURN_IF_ERROR(
        CheckLimit(LimitOf("FetchKernelRequest.suites"), "suites", request.suites.size()));
    for (const std::string& suite : request.suites) {
      KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("FetchKernelRequest.suites", "bytes of a suite"),
                                       "suites", suite.size()));
      if (IsDebianName(suite)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("suites: '", base::SanitizeUtf8(suite), "' is not the name of a suite"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> Obtain(const FetchRequest& request) const override {
    AptFetchOptions options;
    options.package = request.what;
    options.suites = request.suites;
    options.state_dir = request.state_dir;
    options.dest_dir = request.dest_dir;
    options.progress = request.progress;
    options.cancelled = request.cancelled;
    return FetchPackages(options);
  }
};

}  // namespace

const KernelSource& DebSource() {
  static const Deb source;
  return source;
}

}  // namespace ktstr::cache
