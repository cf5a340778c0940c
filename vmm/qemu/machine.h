// SPDX-License-Identifier: Apache-2.0
//
// QEMU's software emulation (TCG) as a Machine: one QEMU process, fed through inherited descriptors
// and driven by QMP, in virtual time (single thread, icount). It dies with us (PR_SET_PDEATHSIG).
//
// QMP is silent while the guest runs, but for QEMU's events: see argv.h.
//
// A snapshot is QEMU's migration stream without RAM (x-ignore-shared), and the RAM files as they
// are. Restored guests map these privately (private_memory.h).

#ifndef KTSTR_VMM_QEMU_MACHINE_H_
#define KTSTR_VMM_QEMU_MACHINE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "vmm/launch_plan.h"
#include "vmm/machine.h"
#include "vmm/qemu/argv.h"

namespace ktstr::vmm::qemu {

// Open files of a launch; borrowed during the call.
struct BootFiles {
  int kernel = -1;           // vmlinux, ELF with a PVH entry.
  int boot_image = -1;       // initramfs
  int program = -1;          // qemu-system-x86_64, executed through this descriptor.
  std::string program_path;  // For messages.
};

// Asks the program. NotFound/PermissionDenied/FailedPrecondition name `program_path`.
absl::StatusOr<Version> QueryVersion(const BootFiles& files);

// Starts QEMU on `memory`, which holds the window already, and lets the guest go. An error carries
// what QEMU printed.
absl::StatusOr<std::unique_ptr<Machine>> Boot(const LaunchPlan& plan, const BootFiles& files,
                                              const Version& version,
                                              std::unique_ptr<SharedMemory> memory);

// A guest that stands still where `snapshot` was taken, by the same plan, files and version. The
// snapshot's files must outlive the machine. An error carries what QEMU printed.
absl::StatusOr<std::unique_ptr<Machine>> Restore(const LaunchPlan& plan, const BootFiles& files,
                                                 const Version& version, const Snapshot& snapshot);

}  // namespace ktstr::vmm::qemu

#endif  // KTSTR_VMM_QEMU_MACHINE_H_
