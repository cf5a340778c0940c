// SPDX-License-Identifier: Apache-2.0
//
// The page that the library in QEMU shares with ktstr-vm: the file that KTSTR_PAGE_FD names. C and
// C++. The guest cannot observe who reads it.

#ifndef KTSTR_VMM_QEMU_LIBRARY_PAGE_H_
#define KTSTR_VMM_QEMU_LIBRARY_PAGE_H_

#include <stdint.h>

enum { kPageBytes = 4096 };

// The longest turn: a vCPU whose turns are longer keeps others from booting (QEMU before 8.1 runs
// one until the next timer, and kernels before 6.5 arm none for the others).
enum { kMaxTurnNs = 100000000 };

struct Page {
  int64_t guest_ns;  // From the library: guest time at the end of the last turn.
  // To the library, while the guest stands still:
  int64_t turn_ns;           // 1 to kMaxTurnNs
  int64_t rendezvous_at_ns;  // Guest time of the next rendezvous; 0: none.
  // To the library, at any time. kHalt: from the end of the current turn on no vCPU executes, and
  // QEMU's main thread has its turn. kHaltInOrder: the same, from the end of a turn after which
  // QEMU begins with its first vCPU again. Until a rewind.
  int64_t halt;
  // From the library: the byte on the bell's pipe is for a rendezvous.
  int64_t at_rendezvous;
  // kRewindAsked to the library, while the vCPUs are stopped; then one of the others from it,
  // before QEMU answers another QMP command (rewind.c).
  int64_t rewind;
  int64_t halted;  // From the library: what `halt` asks for is so.
  // From the library, at each bell: whether the machine can go back to its snapshot, and run as
  // long as a new one without QEMU dropping the translations, which would change the vCPUs' order.
  int64_t can_rewind;
};

enum { kHalt = 1, kHaltInOrder = 2 };
enum { kRewindAsked = 1, kRewound = 2, kCannotRewind = 3 };

#endif  // KTSTR_VMM_QEMU_LIBRARY_PAGE_H_
