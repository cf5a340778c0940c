// SPDX-License-Identifier: Apache-2.0
#include "scenario/kernel_choice.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "scenario/version_order.h"

namespace ktstr::scenario {
namespace {

constexpr char kGetSchedExt[] =
    "the scenario starts a sched_ext scheduler: it needs a kernel with CONFIG_SCHED_CLASS_EXT=y "
    "(6.12 or newer), e.g. `ktstrctl kernel fetch deb:PACKAGE`; `ktstrctl kernel list` shows what "
    "is there";

using Indexes = std::vector<size_t>;

absl::Status NoKernel(const std::string& name, size_t cached) {
  const std::string which = name.empty() ? "" : absl::StrCat(" for '", name, "'");
  const std::string among =
      cached == 0 ? " (the cache is empty)" : absl::StrCat(" among the ", cached, " in the cache");
  return absl::NotFoundError(absl::StrCat(
      "no kernel found", which, among,
      "\n  hint: set KTSTR_KERNEL to a version (e.g. `6.14.2`) or a cache key (see `ktstrctl "
      "kernel list`), or run `ktstrctl kernel fetch deb:PACKAGE` to populate the cache"
      "\n  hint: or run `ktstrctl kernel import /path/to/bzImage` to use a pre-built bootable "
      "image or a kernel package"));
}

absl::Status NoSchedExt(const std::string& name) {
  return absl::FailedPreconditionError(absl::StrCat(
      "no kernel ", name.empty() ? "in the cache" : absl::StrCat("that matches '", name, "'"),
      " has sched_ext (sched_ext_ops in its BTF), and ", kGetSchedExt));
}

absl::Status Ambiguous(const std::vector<CachedKernel>& kernels, Indexes matches,
                       const std::string& name) {
  std::sort(matches.begin(), matches.end(),
            [&](size_t a, size_t b) { return ListedBefore(kernels[a], kernels[b]); });
  std::string list;
  bool distinct = true;
  for (size_t i = 0; i < matches.size(); ++i) {
    const CachedKernel& kernel = kernels[matches[i]];
    if (i > 0 && kernel.release == kernels[matches[i - 1]].release) distinct = false;
    absl::StrAppend(&list, "\n  release ", kernel.release, "  key ", kernel.key);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "kernel '", name, "' is ambiguous: ", matches.size(), " cached kernels match. Name one by ",
      distinct ? "its release or its key:" : "its key:", list));
}

struct Matches {
  Indexes indexes;
  std::string what;
};

Matches FindMatches(const std::vector<CachedKernel>& kernels, const std::string& name) {
  Matches found;
  const auto take = [&](auto&& matches) {
    for (size_t i = 0; i < kernels.size(); ++i) {
      if (!kernels[i].version.empty() && matches(kernels[i])) found.indexes.push_back(i);
    }
    return !found.indexes.empty();
  };
  if (name.empty()) {
    take([](const CachedKernel&) { return true; });
    found.what = "newest version in the cache";
  } else if (take([&](const CachedKernel& kernel) { return kernel.release == name; })) {
    found.what = absl::StrCat("its release is '", name, "'");
  } else if (take([&](const CachedKernel& kernel) { return kernel.version == name; })) {
    found.what = absl::StrCat("its version is '", name, "'");
  } else {
    take([&](const CachedKernel& kernel) { return IsVersionPrefix(name, kernel.version); });
    found.what = absl::StrCat("newest version in the cache that matches '", name, "'");
  }
  return found;
}

Indexes OfNewestVersion(const std::vector<CachedKernel>& kernels, const Indexes& among) {
  Indexes newest;
  for (size_t i : among) {
    const int order =
        newest.empty() ? 0 : CompareVersions(kernels[i].version, kernels[newest[0]].version);
    if (order < 0) continue;
    if (order > 0) newest.clear();
    newest.push_back(i);
  }
  return newest;
}

}  // namespace

CachedKernel CachedKernelOf(const v1::KernelEntry& entry) {
  const v1::KernelMetadata& metadata = entry.metadata();
  CachedKernel kernel;
  kernel.key = metadata.key();
  if (!entry.error_kind().empty()) return kernel;
  kernel.version = metadata.version();
  kernel.release = metadata.release();
  kernel.sched_ext = metadata.sched_ext();
  kernel.created_unix_s = metadata.created_unix_s();
  return kernel;
}

absl::StatusOr<KernelChoice> ChooseKernel(const std::vector<CachedKernel>& kernels,
                                          const std::string& name, bool needs_sched_ext) {
  for (size_t i = 0; i < kernels.size(); ++i) {
    if (name.empty() || kernels[i].key != name) continue;
    if (needs_sched_ext && !kernels[i].sched_ext && !kernels[i].version.empty()) {
      return NoSchedExt(name);
    }
    return KernelChoice{i, "named by its key"};
  }
  Matches matches = FindMatches(kernels, name);
  if (matches.indexes.empty()) return NoKernel(name, kernels.size());
  Indexes able;
  for (size_t i : matches.indexes) {
    if (!needs_sched_ext || kernels[i].sched_ext) able.push_back(i);
  }
  if (able.empty()) return NoSchedExt(name);
  if (needs_sched_ext) absl::StrAppend(&matches.what, ", can do sched_ext");
  const Indexes newest = OfNewestVersion(kernels, able);
  if (newest.size() == 1) return KernelChoice{newest[0], matches.what};
  if (!name.empty()) return Ambiguous(kernels, newest, name);
  const size_t first = *std::min_element(newest.begin(), newest.end(), [&](size_t a, size_t b) {
    return std::tie(kernels[a].created_unix_s, kernels[a].key) <
           std::tie(kernels[b].created_unix_s, kernels[b].key);
  });
  return KernelChoice{
      first, absl::StrCat(matches.what, ", cached before the ", newest.size() - 1, " other",
                          newest.size() > 2 ? "s" : "", " of that version")};
}

bool ListedBefore(const CachedKernel& a, const CachedKernel& b) {
  if (a.version.empty() != b.version.empty()) return b.version.empty();
  if (int order = CompareVersions(a.version, b.version); order != 0) return order > 0;
  if (int order = CompareVersions(a.release, b.release); order != 0) return order > 0;
  return a.key < b.key;
}

}  // namespace ktstr::scenario
