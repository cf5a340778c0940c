// SPDX-License-Identifier: Apache-2.0
#include "daemon/engine_choice.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "vmm/engine.h"
#include "vmm/kvm_probe.h"

namespace ktstr::daemon {

absl::StatusOr<EngineChoice> ChooseEngine(v1::Engine asked, const std::string& kvm_device) {
  if (asked == v1::TCG) return EngineChoice{v1::TCG, "as asked for"};
  const absl::Status kvm = vmm::CheckKvm(kvm_device);
  const absl::Status engine = vmm::FindEngine(v1::KVM).status();
  if (asked == v1::AUTO) {
    if (kvm.ok() && engine.ok()) return EngineChoice{v1::KVM, "KVM works here"};
    // The first sentence names what is missing; the remedy is for users who ask for kvm.
    const std::string why(kvm.message().substr(0, kvm.message().find(". ")));
    return EngineChoice{
        v1::TCG, kvm.ok() ? "this version has no kvm engine" : absl::StrCat("no KVM: ", why)};
  }
  if (!kvm.ok()) return absl::FailedPreconditionError(kvm.message());
  if (!engine.ok()) return absl::FailedPreconditionError(engine.message());
  return EngineChoice{v1::KVM, "as asked for"};
}

std::map<v1::Engine, std::string> EnginePaths(const v1::DaemonConfig& config) {
  return {{v1::TCG, config.qemu_path()}, {v1::KVM, kKvmDevice}};
}

absl::Status CheckEngine(v1::Engine asked, const v1::DaemonConfig& config) {
  KTSTR_ASSIGN_OR_RETURN(const EngineChoice choice, ChooseEngine(asked, kKvmDevice));
  KTSTR_ASSIGN_OR_RETURN(const vmm::Engine* engine, vmm::FindEngine(choice.engine));
  return engine->Open(EnginePaths(config).at(choice.engine)).status();
}

}  // namespace ktstr::daemon
