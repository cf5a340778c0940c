// SPDX-License-Identifier: Apache-2.0
//
// A launch as a value: everything that makes one boot what it is. The daemon decides it once,
// before anything starts, and sends it to ktstr-vm in VmStart. The value is v1::LaunchPlan: what
// every engine needs, and the part that the engine adds (Engine::CompletePlan). It is a pure
// function of the request and the engine, which unit tests compare. Any thread.

#ifndef KTSTR_VMM_LAUNCH_PLAN_H_
#define KTSTR_VMM_LAUNCH_PLAN_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ktstr/v1/vm.pb.h"
#include "scenario/plan.h"
#include "scenario/topology.h"

namespace ktstr::vmm {

class Engine;

struct LaunchRequest {
  scenario::Topology topology;
  uint32_t memory_mb = 0;     // As asked for; raised when the images need more.
  uint64_t kernel_bytes = 0;  // Sizes of the three images.
  uint64_t boot_image_bytes = 0;
  uint64_t bundle_bytes = 0;
  uint32_t vcpu_mips = scenario::kDefaultVcpuMips;  // As Scenario.vcpu_mips.
  bool dmesg = false;  // The kernel prints all but debug messages on its console.
};

// InvalidArgument names what is too large, and the bound.
absl::StatusOr<v1::LaunchPlan> MakeLaunchPlan(const LaunchRequest& request, const Engine& engine);

// ktstr-vm checks a plan with this before it uses it. InvalidArgument names the invalid field.
absl::Status CheckLaunchPlan(const v1::LaunchPlan& plan);

int NumCpus(const v1::LaunchPlan& plan);
// The turn of a vCPU (Machine::SetVcpuTurn): 100 us, or 400 us for all vCPUs together if that is
// less. Also of a guest that boots to a snapshot, whatever its runs ask for.
absl::Duration DefaultVcpuTurn(const v1::LaunchPlan& plan);

// RAM of all nodes together.
uint64_t MemoryBytes(const v1::LaunchPlan& plan);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_LAUNCH_PLAN_H_
