// SPDX-License-Identifier: Apache-2.0

#ifndef KTSTR_VMM_QEMU_LIBRARY_THREADS_H_
#define KTSTR_VMM_QEMU_LIBRARY_THREADS_H_

// Rings the bell for the library itself, on the vCPU thread and with QEMU's lock held: returns when
// ktstr-vm has answered. Until then no vCPU executes and the clock stands still.
void RingBell(void);

// The main thread looks again whether it has its turn. On the vCPU thread.
void WakeMainThread(void);

#endif  // KTSTR_VMM_QEMU_LIBRARY_THREADS_H_
