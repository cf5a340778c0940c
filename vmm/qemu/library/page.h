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
  // To the library, at any time: from the end of the current turn on no vCPU executes, and QEMU's
  // main thread has its turn. For good.
  int64_t halt;
  // From the library: the byte on the bell's pipe is for a rendezvous.
  int64_t at_rendezvous;
};

#endif  // KTSTR_VMM_QEMU_LIBRARY_PAGE_H_
