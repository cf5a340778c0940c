// SPDX-License-Identifier: Apache-2.0
//
// What a real machine starts from, for tests that drive it themselves: the host's QEMU and the
// kernel that KTSTR_TEST_VMLINUX names.

#ifndef KTSTR_VMM_TESTING_REAL_LAUNCH_H_
#define KTSTR_VMM_TESTING_REAL_LAUNCH_H_

#include <fcntl.h>
#include <stdlib.h>

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"
#include "scenario/topology.h"
#include "vmm/boot_image.h"
#include "vmm/engine.h"
#include "vmm/launch_plan.h"

namespace ktstr::vmm::testing {

struct MachineShape {
  uint32_t nodes = 1;
  uint32_t llcs = 1;
  uint32_t cores_per_llc = 1;
  uint32_t memory_mb = 256;
};

class RealLaunch {
 public:
  // `init`: the path of the program in the boot image. NotFound names what the host lacks.
  static absl::StatusOr<RealLaunch> Make(const MachineShape& shape, const std::string& init,
                                         uint64_t bundle_bytes) {
    const char* path = getenv("KTSTR_TEST_VMLINUX");
    if (path == nullptr) {
      return absl::NotFoundError("KTSTR_TEST_VMLINUX names no kernel (uncompressed ELF)");
    }
    RealLaunch made;
    KTSTR_ASSIGN_OR_RETURN(made.engine_, FindEngine(v1::TCG));
    KTSTR_ASSIGN_OR_RETURN(made.file_, made.engine_->Open("qemu-system-x86_64"));
    KTSTR_ASSIGN_OR_RETURN(EngineIdentity identity, made.engine_->Identity(made.file_));
    made.version_ = std::move(identity.version);
    KTSTR_ASSIGN_OR_RETURN(made.kernel_, base::Open(path, O_RDONLY));
    KTSTR_ASSIGN_OR_RETURN(made.image_, MakeBootImage(init, "test", ""));
    v1::Topology counts;
    counts.set_numa_nodes(shape.nodes);
    counts.set_llcs(shape.llcs);
    counts.set_cores_per_llc(shape.cores_per_llc);
    counts.set_threads_per_core(1);
    KTSTR_ASSIGN_OR_RETURN(const scenario::Topology topology,
                           scenario::Topology::FromProto(counts));
    LaunchRequest request{topology};
    request.memory_mb = shape.memory_mb;
    KTSTR_ASSIGN_OR_RETURN(request.kernel_bytes, base::SizeOf(made.kernel_.get(), "kernel"));
    KTSTR_ASSIGN_OR_RETURN(request.boot_image_bytes, base::SizeOf(made.image_.get(), "boot image"));
    request.bundle_bytes = bundle_bytes;
    KTSTR_ASSIGN_OR_RETURN(made.plan_, MakeLaunchPlan(request, *made.engine_));
    return made;
  }

  const Engine& engine() const { return *engine_; }
  v1::LaunchPlan& plan() { return plan_; }
  const v1::LaunchPlan& plan() const { return plan_; }
  // Turns as long as a run has them by default.
  Launch launch() const {
    return {plan_, file_, version_, kernel_.get(), image_.get(), DefaultVcpuTurn(plan_)};
  }

 private:
  const Engine* engine_ = nullptr;
  EngineFile file_;
  std::string version_;
  base::UniqueFd kernel_;
  base::UniqueFd image_;
  v1::LaunchPlan plan_;
};

}  // namespace ktstr::vmm::testing

#endif  // KTSTR_VMM_TESTING_REAL_LAUNCH_H_
