// SPDX-License-Identifier: Apache-2.0
//
// An engine runs virtual machines: QEMU's software emulation is one (vmm/qemu/). Each lives in a
// folder of its own and implements this interface; one line in engines.cc registers it, and nothing
// else names it. The daemon gets an engine's identity and plans launches with it; ktstr-vm boots
// and restores with it.
//
// Any thread; engines have no state.

#ifndef KTSTR_VMM_ENGINE_H_
#define KTSTR_VMM_ENGINE_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/vm.pb.h"
#include "vmm/machine.h"
#include "vmm/snapshot.h"

namespace ktstr::vmm {

// The open file that an engine runs from: a program, or a device.
struct EngineFile {
  std::string path;  // For messages.
  base::UniqueFd fd;
};

struct EngineIdentity {
  std::string version;  // "QEMU 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
  std::string file;     // FileIdentity() of the EngineFile.
};

// Path, device, inode, size and modification time: the text differs for another file of the same
// version.
absl::StatusOr<std::string> FileIdentity(const EngineFile& file);

// Everything that a machine starts from; borrowed during the call.
struct Launch {
  const v1::LaunchPlan& plan;  // With this engine's part.
  const EngineFile& file;
  const std::string& version;  // EngineIdentity.version
  int kernel = -1;             // vmlinux, ELF with a PVH entry.
  int boot_image = -1;         // initramfs
  absl::Duration vcpu_turn;    // Machine::SetVcpuTurn()
};

// What a restored guest writes to.
enum class RestoredRam {
  kShared,  // Pages of the snapshot, each copied when the guest writes to it.
  kCopied,  // A copy of the snapshot's RAM: the machine can take a snapshot again.
};

class Engine {
 public:
  virtual ~Engine() = default;

  // Opens the file that the engine runs from; `configured` is its name in the daemon's
  // configuration. FailedPrecondition, with the remedy, when it is missing.
  virtual absl::StatusOr<EngineFile> Open(const std::string& configured) const = 0;
  // Runs the engine to find out, which takes as long as the restore of a guest. An error names
  // `file.path`.
  virtual absl::StatusOr<EngineIdentity> Identity(const EngineFile& file) const = 0;
  // Adds this engine's part to a plan that has everything else. `vcpu_mips`: as
  // Scenario.vcpu_mips.
  virtual void CompletePlan(uint32_t vcpu_mips, v1::LaunchPlan* plan) const = 0;
  // The speed that the plan gives (RunRecord.vcpu_mips); 0: the host's.
  virtual uint32_t VcpuMips(const v1::LaunchPlan& plan) const = 0;
  // The engine's part of what a snapshot depends on (vmm::SnapshotIdentity): text, one line per
  // fact.
  virtual absl::StatusOr<std::string> SnapshotIdentity(const v1::LaunchPlan& plan,
                                                       const EngineIdentity& identity) const = 0;

  // Starts a machine on `memory`, which holds the window already, and lets the guest run. An error
  // contains what the engine printed.
  virtual absl::StatusOr<std::unique_ptr<Machine>> Boot(
      const Launch& launch, std::unique_ptr<SharedMemory> memory) const = 0;
  // Restores a guest, which stands still where `snapshot` was taken. Same launch as the snapshot's.
  // The snapshot's files must outlive the machine.
  virtual absl::StatusOr<std::unique_ptr<Machine>> Restore(const Launch& launch,
                                                           const Snapshot& snapshot,
                                                           RestoredRam ram) const = 0;
};

// The pointer stays valid. Unimplemented, with the remedy, when this version has no such engine.
absl::StatusOr<const Engine*> FindEngine(v1::Engine kind);

// "tcg", "kvm"
std::string EngineLabel(v1::Engine kind);

// What a snapshot depends on, as text of one line per fact: equal text, equal snapshot. The digests
// name the files' contents.
absl::StatusOr<std::string> SnapshotIdentity(const Engine& engine, const v1::LaunchPlan& plan,
                                             const EngineIdentity& identity,
                                             std::string_view kernel_digest,
                                             std::string_view boot_image_digest);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_ENGINE_H_
