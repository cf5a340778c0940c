// SPDX-License-Identifier: Apache-2.0
//
// Bounded turns of the vCPUs. Where nothing else is said, a function is for the vCPU thread.

#ifndef KTSTR_VMM_QEMU_LIBRARY_VCPU_TURNS_H_
#define KTSTR_VMM_QEMU_LIBRARY_VCPU_TURNS_H_

#include <pthread.h>
#include <stdbool.h>

// Before the thread executes its first vCPU. False: this QEMU does not export what turns need.
bool StartVcpuTurns(void);

// The thread has locked, or is about to unlock, the mutex.
void VcpuThreadLocked(pthread_mutex_t* mutex);
void VcpuThreadUnlocks(pthread_mutex_t* mutex);

// All vCPUs are idle: the thread is about to wait.
void VcpuThreadWaits(void);

// Forgets what came before; the vCPUs may execute again. While they are stopped.
void RestartVcpuTurns(void);

// Shared with ktstr-vm; NULL: this QEMU does not export what turns need. Any thread.
struct Page* SharedPage(void);

// No vCPU executes any more (Page.halt). Any thread.
bool VcpusAreHalted(void);

#endif  // KTSTR_VMM_QEMU_LIBRARY_VCPU_TURNS_H_
