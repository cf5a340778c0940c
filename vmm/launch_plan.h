// SPDX-License-Identifier: Apache-2.0
//
// A launch as a value: everything that makes one cold boot what it is, decided before anything
// starts. A pure function of the request and of the sizes of the images, the same for both engines,
// compared in unit tests. Any thread.

#ifndef KTSTR_VMM_LAUNCH_PLAN_H_
#define KTSTR_VMM_LAUNCH_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scenario/topology.h"

namespace ktstr::vmm {

struct LaunchPlan {
  scenario::Topology topology;

  // RAM of each NUMA node, in bytes, each a multiple of 2 MiB. RAM offset = physical address below
  // 2 GiB; the rest is above 4 GiB.
  std::vector<uint64_t> node_memory;
  uint64_t memory_bytes() const;

  // Physical address and size, below 2 GiB and below the initramfs; multiples of 2 MiB.
  uint64_t window_address = 0;
  uint64_t window_size = 0;

  std::string command_line;

  // tcg: one instruction takes 2^shift ns of virtual time. Chosen so that each of n busy vCPUs,
  // which share that time, runs at about 31 MIPS.
  int icount_shift = 0;
};

struct LaunchRequest {
  scenario::Topology topology;
  uint32_t memory_mb = 0;     // As asked for; raised when the images need more.
  uint64_t kernel_bytes = 0;  // Sizes of the three images.
  uint64_t boot_image_bytes = 0;
  uint64_t bundle_bytes = 0;
  bool dmesg = false;  // The kernel tells all but debug messages to its console.
};

// InvalidArgument names what is too large, and the bound.
absl::StatusOr<LaunchPlan> MakeLaunchPlan(const LaunchRequest& request);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_LAUNCH_PLAN_H_
