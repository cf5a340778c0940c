// SPDX-License-Identifier: Apache-2.0
//
// QEMU's software emulation (TCG) as a Machine: one QEMU process, fed through inherited descriptors
// and driven by QMP, in virtual time (single thread, icount). It dies with ktstr-vm
// (PR_SET_PDEATHSIG).
//
// While the guest runs, ktstr-vm sends no QMP command (argv.h has the reason); QEMU sends its
// events.
//
// A snapshot is QEMU's migration stream without RAM (x-ignore-shared), and the RAM files as they
// are. Restored guests map these privately (private_memory.h).

#ifndef KTSTR_VMM_QEMU_MACHINE_H_
#define KTSTR_VMM_QEMU_MACHINE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "vmm/engine.h"
#include "vmm/machine.h"
#include "vmm/qemu/argv.h"

namespace ktstr::vmm::qemu {

// Runs the program with -version. NotFound, PermissionDenied and FailedPrecondition name its path.
absl::StatusOr<Version> QueryVersion(const EngineFile& program);

// Engine::Boot() and Engine::Restore(), for a plan with its tcg part.
absl::StatusOr<std::unique_ptr<Machine>> Boot(const Launch& launch,
                                              std::unique_ptr<SharedMemory> memory);
absl::StatusOr<std::unique_ptr<Machine>> Restore(const Launch& launch, const Snapshot& snapshot,
                                                 RestoredRam ram);

}  // namespace ktstr::vmm::qemu

#endif  // KTSTR_VMM_QEMU_MACHINE_H_
