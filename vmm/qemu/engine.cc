// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/engine.h"

#include <fcntl.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "vmm/launch_plan.h"
#include "vmm/qemu/argv.h"
#include "vmm/qemu/library.h"
#include "vmm/qemu/machine.h"

namespace ktstr::vmm::qemu {
namespace {

constexpr uint32_t kMaxShift = 10;  // QEMU's maximum.

// The shift with which each of `cpus` busy vCPUs comes nearest to `mips` (vm.proto, TcgPlan).
uint32_t ShiftOf(uint32_t mips, int cpus) {
  if (mips == 0) return 0;
  const int64_t shift = std::lround(std::log2(1000.0 / (static_cast<double>(mips) * cpus)));
  return static_cast<uint32_t>(std::clamp<int64_t>(shift, 0, kMaxShift));
}

class Tcg : public Engine {
 public:
  absl::StatusOr<EngineFile> Open(const std::string& configured) const override {
    absl::StatusOr<std::string> found = base::FindProgram(configured);
    if (!found.ok()) {
      return absl::FailedPreconditionError(absl::StrCat(
          found.status().message(), ": QEMU is needed to run virtual machines. Install it: ",
          "sudo apt install qemu-system-x86"));
    }
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd program, base::Open(*found, O_RDONLY));
    return EngineFile{*std::move(found), std::move(program)};
  }

  absl::StatusOr<EngineIdentity> Identity(const EngineFile& file) const override {
    KTSTR_ASSIGN_OR_RETURN(const Version version, QueryVersion(file));
    KTSTR_ASSIGN_OR_RETURN(std::string of_file, FileIdentity(file));
    return EngineIdentity{version.text, std::move(of_file)};
  }

  void CompletePlan(uint32_t vcpu_mips, v1::LaunchPlan* plan) const override {
    plan->mutable_tcg()->set_icount_shift(ShiftOf(vcpu_mips, NumCpus(*plan)));
  }

  uint32_t VcpuMips(const v1::LaunchPlan& plan) const override {
    return std::max(1U,
                    1000U / (static_cast<uint32_t>(NumCpus(plan)) << plan.tcg().icount_shift()));
  }

  absl::StatusOr<std::string> SnapshotIdentity(const v1::LaunchPlan& plan,
                                               const EngineIdentity& identity) const override {
    KTSTR_ASSIGN_OR_RETURN(const Version version, ParseVersion(identity.version));
    return absl::StrCat("arguments ",
                        absl::StrJoin(MakeArguments(plan, version, Start::kBoot), " "),
                        "\nlibrary ", LibraryDigest(), "\n");
  }

  absl::StatusOr<std::unique_ptr<Machine>> Boot(
      const Launch& launch, std::unique_ptr<SharedMemory> memory) const override {
    KTSTR_RETURN_IF_ERROR(CheckPart(launch.plan));
    return qemu::Boot(launch, std::move(memory));
  }

  absl::StatusOr<std::unique_ptr<Machine>> Restore(const Launch& launch, const Snapshot& snapshot,
                                                   RestoredRam ram) const override {
    KTSTR_RETURN_IF_ERROR(CheckPart(launch.plan));
    return qemu::Restore(launch, snapshot, ram);
  }

 private:
  static absl::Status CheckPart(const v1::LaunchPlan& plan) {
    if (plan.has_tcg() && plan.tcg().icount_shift() <= kMaxShift) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("launch plan: its part for the engine tcg is missing, or has an icount_shift "
                     "above ",
                     kMaxShift));
  }
};

}  // namespace

const Engine* TcgEngine() {
  static const Tcg engine;
  return &engine;
}

}  // namespace ktstr::vmm::qemu
