// SPDX-License-Identifier: Apache-2.0
//
// Which cached kernel a name means: the one rule of `run --kernel`, `kernel show` and the daemon.
// Pure; any thread.
//
// A name is, in this order, a key, a release ("7.3.4+deb13-cloud-amd64"), a version ("7.3.4") or
// the beginning of one ("7.3", "7"). Of the kernels that match and support the scenario, the newest
// version counts; several kernels of that version are an error that lists them. Without a name, it
// is the newest version in the cache that supports the scenario, and of several kernels of that
// version the one cached first: fetching another one of that version does not change the choice.

#ifndef KTSTR_SCENARIO_KERNEL_CHOICE_H_
#define KTSTR_SCENARIO_KERNEL_CHOICE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ktstr/v1/kernel.pb.h"

namespace ktstr::scenario {

struct CachedKernel {
  std::string key;
  std::string version;  // Empty, as is `release`, when the entry is corrupt.
  std::string release;
  bool sched_ext = false;
  int64_t created_unix_s = 0;
};
CachedKernel CachedKernelOf(const v1::KernelEntry& entry);

struct KernelChoice {
  size_t index;     // In `kernels`.
  std::string why;  // "newest version in the cache, can do sched_ext", for the user.
};

// Only its key matches a corrupt entry. Errors, each with the remedy: NotFound when nothing
// matches; InvalidArgument with the keys when several kernels match; FailedPrecondition when
// `needs_sched_ext` and no match has sched_ext.
absl::StatusOr<KernelChoice> ChooseKernel(const std::vector<CachedKernel>& kernels,
                                          const std::string& name, bool needs_sched_ext);

// The order of lists: newest version first, then newest release, then by key; corrupt ones last.
bool ListedBefore(const CachedKernel& a, const CachedKernel& b);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_KERNEL_CHOICE_H_
