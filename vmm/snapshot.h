// SPDX-License-Identifier: Apache-2.0
//
// A guest frozen at kDoorbellReady, before it has seen any bundle: a function of kernel, boot
// image, topology, memory and engine, and of nothing of any user. Many guests are restored from one
// at the same time: it never changes.
//
// The engine's device state is opaque, and valid for the very same engine with the very same launch
// only (SnapshotIdentity, in engine.h).

#ifndef KTSTR_VMM_SNAPSHOT_H_
#define KTSTR_VMM_SNAPSHOT_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "ktstr/v1/vm.pb.h"
#include "vmm/descriptors.h"

namespace ktstr::vmm {

// Sealed memfds (base::SealMemfd): whoever holds one cannot change it.
struct Snapshot {
  base::UniqueFd state;
  std::vector<base::UniqueFd> ram;  // One per NUMA node, as long as the node.
};

// InvalidArgument when a file is not sealed, or is not as long as the plan's nodes.
absl::Status CheckSnapshot(const Snapshot& snapshot, const v1::LaunchPlan& plan);

// A snapshot as descriptors of a message (VmSnapshot), borrowed; and back.
std::vector<NamedFd> SnapshotFds(const Snapshot& snapshot);
absl::StatusOr<Snapshot> TakeSnapshotFds(Descriptors* descriptors);

// Room for a bundle in the window of a machine that is restored: a snapshot serves every bundle up
// to it. The smallest of 6 MiB, 14 MiB, 30 MiB, … that holds `bundle_bytes`.
uint64_t BundleCapacity(uint64_t bundle_bytes);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_SNAPSHOT_H_
