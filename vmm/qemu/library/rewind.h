// SPDX-License-Identifier: Apache-2.0
//
// Takes a machine that was restored from a snapshot back to it, within the same process.

#ifndef KTSTR_VMM_QEMU_LIBRARY_REWIND_H_
#define KTSTR_VMM_QEMU_LIBRARY_REWIND_H_

// Sets Page.can_rewind. On the vCPU thread.
void TellWhetherItRewinds(void);

// On QEMU's main thread, which does not hold QEMU's lock: does what Page.rewind asks for.
void RewindIfAsked(void);

#endif  // KTSTR_VMM_QEMU_LIBRARY_REWIND_H_
