// SPDX-License-Identifier: Apache-2.0
//
// ktstr-vm: one process, one virtual machine, one run. Speaks proto/ktstr/v1/vm.proto with the
// daemon on a SOCK_SEQPACKET socket: a VmStart with its descriptors comes in, checked observations
// go out, the last one a VmEnd; then it ends. A VmStop cancels; when the daemon is gone, so is the
// VM. It trusts the daemon and nothing else: not the guest, not the images.
//
// One thread: an event loop over the control socket, the engine and, every 20 ms, the ring.

#ifndef KTSTR_VMM_PROCESS_H_
#define KTSTR_VMM_PROCESS_H_

#include <cstdint>

#include "absl/time/time.h"
#include "base/fd.h"

namespace ktstr::vmm {

// Frames of one run that are relayed; a guest that sends more floods the ring.
inline constexpr uint64_t kMaxRingBytes = uint64_t{64} << 20;

// Runs the machine to its end. The value is the process's exit code: 0 when a VmEnd was sent,
// 1 when the daemon is gone.
int RunVmProcess(base::UniqueFd control);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_PROCESS_H_
