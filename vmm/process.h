// SPDX-License-Identifier: Apache-2.0
//
// ktstr-vm: one process, one virtual machine, one run, or several one after another from the same
// snapshot (VmRun.rewind). It speaks proto/ktstr/v1/vm.proto with the
// daemon on a SOCK_SEQPACKET socket: it receives VmStart and VmRun with their descriptors, sends
// checked observations, and ends after a VmEnd or a VmNoSnapshot. A VmStop cancels; when the daemon
// is gone, ktstr-vm ends and the engine with it. It trusts the daemon and nothing else: not the
// guest, not the images.
//
// One thread (a second one helps with the memory digest): an event loop over the control socket and
// the engine, which reads the ring every 20 ms.

#ifndef KTSTR_VMM_PROCESS_H_
#define KTSTR_VMM_PROCESS_H_

#include <cstdint>

#include "absl/time/time.h"
#include "base/fd.h"

namespace ktstr::vmm {

// Bytes of frames that one run may send; more is a flood, which ends the run.
inline constexpr uint64_t kMaxRingBytes = uint64_t{64} << 20;

// Runs the machine to its end. Returns the process's exit code: 0 after a VmEnd or a VmNoSnapshot,
// 1 when the daemon is gone.
int RunVmProcess(base::UniqueFd control);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_PROCESS_H_
