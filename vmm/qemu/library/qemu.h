// SPDX-License-Identifier: Apache-2.0
//
// What QEMU exports to a library that it loads. A QEMU that lacks a function leaves it NULL.
// Layouts are those of QEMU 7.2 to 11 (include/qemu/queue.h, include/qemu/timer.h).

#ifndef KTSTR_VMM_QEMU_LIBRARY_QEMU_H_
#define KTSTR_VMM_QEMU_LIBRARY_QEMU_H_

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
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

// For rewind.c. QEMU's lock, for a thread that does not hold it: 8.2 and newer, and older.
extern void bql_lock_impl(const char* file, int line) QEMU_EXPORTS;
extern void bql_unlock(void) QEMU_EXPORTS;
extern void qemu_mutex_lock_iothread_impl(const char* file, int line) QEMU_EXPORTS;
extern void qemu_mutex_unlock_iothread(void) QEMU_EXPORTS;
union QemuWorkData {
  void* pointer;
  uint64_t word;
};
// Runs `work` on the thread of the vCPU, and returns when it is done.
extern void run_on_cpu(void* cpu, void (*work)(void* cpu, union QemuWorkData data),
                       union QemuWorkData data) QEMU_EXPORTS;
extern void qemu_system_reset(int cause) QEMU_EXPORTS;  // 0: unasked by anybody.
extern void tlb_destroy(void* cpu) QEMU_EXPORTS;
extern void tlb_init(void* cpu) QEMU_EXPORTS;
extern size_t tcg_code_size(void) QEMU_EXPORTS;      // Bytes of translations.
extern size_t tcg_code_capacity(void) QEMU_EXPORTS;  // Above it, QEMU drops all of them.
extern void tb_flush(void* cpu) QEMU_EXPORTS;
enum { kRunStateInMigrate = 1 };
extern bool runstate_check(int state) QEMU_EXPORTS;
// Until 10.0. Before 8.1, `last` is the end of the range.
extern void tb_invalidate_phys_range(uint64_t start, uint64_t last) QEMU_EXPORTS;
extern int qemu_ram_foreach_block(int (*each)(void* block, void* opaque),
                                  void* opaque) QEMU_EXPORTS;
extern int qemu_ram_get_fd(void* block) QEMU_EXPORTS;  // Of a block without a file: negative.
extern void* qemu_ram_get_host_addr(void* block) QEMU_EXPORTS;
extern uint64_t qemu_ram_get_offset(void* block) QEMU_EXPORTS;
extern uint64_t qemu_ram_get_used_length(void* block) QEMU_EXPORTS;
extern void* qio_channel_file_new_fd(int fd) QEMU_EXPORTS;
extern void* qemu_file_new_input(void* channel) QEMU_EXPORTS;
extern int qemu_loadvm_state(void* file) QEMU_EXPORTS;
extern int qemu_fclose(void* file) QEMU_EXPORTS;
extern void migration_incoming_state_destroy(void) QEMU_EXPORTS;
struct QemuYankInstance {
  int type;
  void* of_type;
};
enum { kYankMigration = 2 };
extern bool yank_register_instance(const struct QemuYankInstance* instance,
                                   void** error) QEMU_EXPORTS;

#endif  // KTSTR_VMM_QEMU_LIBRARY_QEMU_H_
