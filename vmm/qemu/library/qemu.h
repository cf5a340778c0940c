// SPDX-License-Identifier: Apache-2.0
//
// What QEMU exports to a library that it loads. A QEMU that lacks a function leaves it NULL.
// Layouts are those of QEMU 7.2 to 11 (include/qemu/queue.h, include/qemu/timer.h).

#ifndef KTSTR_VMM_QEMU_LIBRARY_QEMU_H_
#define KTSTR_VMM_QEMU_LIBRARY_QEMU_H_

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define QEMU_EXPORTS __attribute__((weak))

enum { kVirtualClock = 1, kClocks = 4, kNanoseconds = 1 };

// A QEMUTimer is at most this long.
enum { kTimerBytes = 512 };

extern void* timerlist_new(int clock, void (*notify)(void* opaque, int clock),
                           void* opaque) QEMU_EXPORTS;
// `group`: kClocks lists of timers, one for each clock.
extern void timer_init_full(void* timer, void* group, int clock, int scale, int attributes,
                            void (*callback)(void*), void* opaque) QEMU_EXPORTS;
extern void timer_mod_ns(void* timer, int64_t at) QEMU_EXPORTS;
extern void timer_del(void* timer) QEMU_EXPORTS;
extern int64_t qemu_clock_get_ns(int clock) QEMU_EXPORTS;

extern __thread void* current_cpu QEMU_EXPORTS;
extern void* qemu_get_cpu(int index) QEMU_EXPORTS;
extern void cpu_exit(void* cpu) QEMU_EXPORTS;
extern bool cpu_thread_is_idle(void* cpu) QEMU_EXPORTS;
extern void process_queued_cpu_work(void* cpu) QEMU_EXPORTS;
// Whether this thread holds QEMU's lock: 8.2 and newer, and older.
extern bool bql_locked(void) QEMU_EXPORTS;
extern bool qemu_mutex_iothread_locked(void) QEMU_EXPORTS;

// 8.1 and newer.
extern int64_t icount_percpu_budget(int cpu_count) QEMU_EXPORTS;
extern pthread_mutex_t qemu_cpu_list_lock QEMU_EXPORTS;
struct QemuQueue {  // Also the link in each element, where `next` is NULL at the end.
  void* next;
  struct QemuQueue* last;
};
extern struct QemuQueue cpus_queue QEMU_EXPORTS;  // 8.2 and newer.
extern struct QemuQueue cpus QEMU_EXPORTS;

#endif  // KTSTR_VMM_QEMU_LIBRARY_QEMU_H_
