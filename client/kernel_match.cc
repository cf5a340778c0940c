// SPDX-License-Identifier: Apache-2.0
#include "client/kernel_match.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace ktstr::client {
namespace {

// "7.3" is a prefix of "7.3.4" and of "7.3-rc2", and none of "7.30.1".
bool IsVersionPrefix(absl::string_view prefix, absl::string_view version) {
  return !prefix.empty() && absl::StartsWith(version, prefix) &&
         (version.size() == prefix.size() || !absl::ascii_isdigit(version[prefix.size()]) ||
          !absl::ascii_isdigit(prefix.back()));
}

// Of the sound entries that match the first one, or one of its version that was made later.
template <typename Matches>
const v1::KernelEntry* Newest(const v1::ListKernelsResponse& kernels, Matches matches) {
  const v1::KernelEntry* best = nullptr;
  for (const v1::KernelEntry& entry : kernels.kernels()) {
    if (!entry.error_kind().empty() || !matches(entry.metadata())) continue;
    if (best == nullptr ||
        (entry.metadata().version() == best->metadata().version() &&
         entry.metadata().created_unix_s() > best->metadata().created_unix_s())) {
      best = &entry;
    }
  }
  return best;
}

}  // namespace

const v1::KernelEntry* MatchKernel(const v1::ListKernelsResponse& kernels, absl::string_view id) {
  for (const v1::KernelEntry& entry : kernels.kernels()) {
    if (entry.metadata().key() == id) return &entry;
  }
  using Metadata = v1::KernelMetadata;
  if (const auto* found = Newest(kernels, [id](const Metadata& m) { return m.release() == id; })) {
    return found;
  }
  if (const auto* found = Newest(kernels, [id](const Metadata& m) { return m.version() == id; })) {
    return found;
  }
  return Newest(kernels, [id](const Metadata& m) { return IsVersionPrefix(id, m.version()); });
}

}  // namespace ktstr::client
