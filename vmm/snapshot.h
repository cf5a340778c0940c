// SPDX-License-Identifier: Apache-2.0
//
// A guest frozen at a doorbell. It never changes, so many guests can be restored from it at the
// same time. At kDoorbellReady it has not seen any bundle: it is a function of kernel, boot image,
// topology, memory and engine, with nothing of any user. At kDoorbellAttached it has the files of
// one user and runs the scheduler.
//
// The engine's device state is opaque, and valid only for the same engine with the same launch
// (SnapshotIdentity, in engine.h).

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

// Room for a bundle in the window of a machine that can be restored: one snapshot serves every
// bundle up to it. The smallest of 6 MiB, 14 MiB, 30 MiB, … that holds `bundle_bytes`.
uint64_t BundleCapacity(uint64_t bundle_bytes);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_SNAPSHOT_H_
