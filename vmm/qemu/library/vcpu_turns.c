// SPDX-License-Identifier: Apache-2.0
//
// In virtual time QEMU has one thread for all vCPUs. It executes one after the other, each until
// the next timer of the virtual clock (before QEMU 8.1) or for an n-th of the time until then: 4 ms
// and more, in which the other vCPUs stand still while guest time passes. With this file a vCPU's
// turn ends after Page.turn_ns of guest time.
//
// The loop of the thread (QEMU's accel/tcg/tcg-accel-ops-rr.c) makes passes over the vCPUs:
//
//   pass:  run timers that are due; then from the vCPU at which the last pass ended: execute it, go
//          to the next one, …, until one has an exit request (cpu_exit), or the list ends
//   then:  wait while all vCPUs are idle; process the queued work of each vCPU
//
// The last step locks the work mutex of the first vCPU: a call to pthread_mutex_lock that this
// library sees, at a point where no vCPU executes. There (EndPass) it puts a timer of the virtual
// clock at the end of the turn of the next vCPU that is not idle, and an exit request on the vCPU
// after that one. So a pass has one turn.
//
// The timer never fires: the next EndPass, which comes before QEMU runs timers, moves it. It is on
// a list of its own, because QEMU interrupts all vCPUs and wakes other threads whenever the nearest
// timer of one of its own lists changes.
//
// Rendezvous: at the end of the first pass at or after Page.rendezvous_at_ns the library hands the
// moment to ktstr-vm and waits for its answer. This cuts no turn short: the guest's execution does
// not depend on whether, when or for how long the host looks. Of a machine with one vCPU, whose
// turns nothing else ends, the timer ends the pass at that time.
//
// Page.halt: each vCPU has an exit request before each pass, so that none executes an instruction,
// and QEMU's main thread gets the lock between the passes. QEMU keeps its place in the list of
// vCPUs while they stand still; after the last one it begins with the first, as in a new process.
//
// Shares: a turn may end early, at a timer of the guest, when the vCPU has programmed one, or at a
// PAUSE instruction. A vCPU that is not idle then has the rest in its next turn.
//
// QEMU from 8.1 on divides the time until the next timer by the number of vCPUs, also of idle ones:
// a single busy vCPU comes to a timer in ever smaller steps, down to one instruction, each with a
// translation of its own. It counts the vCPUs once, in its first pass, under qemu_cpu_list_lock;
// while it does, the library shows it one vCPU.

#include "vmm/qemu/library/vcpu_turns.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/qemu/library/page.h"
#include "vmm/qemu/library/qemu.h"
#include "vmm/qemu/library/threads.h"

enum { kMaxVcpus = 1024 };

static struct Page* page;
static pthread_mutex_t* pass_ends;  // The mutex that the loop locks after each pass.
static bool learning;               // The next mutex that is locked is that one.

static void* vcpus[kMaxVcpus];  // In the order in which QEMU executes them.
static int64_t owed[kMaxVcpus];
static int count;

static void* lists[kClocks];
static char timer[kTimerBytes] __attribute__((aligned(64)));
static int64_t timer_at;  // 0: not armed.

// The pass that is due or in progress.
static void* before;  // The vCPU that ran last before it.
static int runner;    // The one whose turn it is; -1: all are idle that the pass gets to.
static int64_t began_at;
static int64_t length;

static void Ignore(void* opaque, int clock) {
  (void)opaque;
  (void)clock;
}

static void NeverFires(void* opaque) { (void)opaque; }

static bool HoldsQemuLock(void) {
  return bql_locked != NULL ? bql_locked() : qemu_mutex_iothread_locked();
}

static void ListVcpus(void) {
  while (count < kMaxVcpus && (vcpus[count] = qemu_get_cpu(count)) != NULL) ++count;
}

bool StartVcpuTurns(void) {
  if (!timerlist_new || !timer_init_full || !timer_mod_ns || !timer_del || !qemu_clock_get_ns ||
      !&current_cpu || !qemu_get_cpu || !cpu_exit || !cpu_thread_is_idle ||
      !process_queued_cpu_work || (!bql_locked && !qemu_mutex_iothread_locked)) {
    return false;
  }
  void* first = qemu_get_cpu(0);
  if (first == NULL) return false;
  learning = true;
  process_queued_cpu_work(first);
  learning = false;
  if (pass_ends == NULL) return false;
  const char* fd = getenv("KTSTR_PAGE_FD");
  if (fd == NULL) return false;
  void* shared = mmap(NULL, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0);
  close(atoi(fd));
  if (shared == MAP_FAILED) return false;
  page = shared;
  lists[kVirtualClock] = timerlist_new(kVirtualClock, Ignore, NULL);
  timer_init_full(timer, lists, kVirtualClock, kNanoseconds, 0, NeverFires, NULL);
  return true;
}

static int IndexOf(const void* vcpu) {
  static int last;
  for (int i = 0; i < count; ++i) {
    const int index = (last + i) % count;
    if (vcpus[index] == vcpu) return last = index;
  }
  return -1;
}

static int64_t TellGuestTime(void) {
  const int64_t now = qemu_clock_get_ns(kVirtualClock);
  __atomic_store_n(&page->guest_ns, now, __ATOMIC_RELAXED);
  return now;
}

// The first vCPU of [begin, end) that is not idle; -1: none.
static int FirstBusy(int begin, int end) {
  while (begin < end && cpu_thread_is_idle(vcpus[begin])) ++begin;
  return begin < end ? begin : -1;
}

static void MoveTimer(int64_t at) {
  if (timer_at == at) return;
  timer_at = at;
  if (at != 0) {
    timer_mod_ns(timer, at);
  } else {
    timer_del(timer);
  }
}

static void MeetIfDue(int64_t now) {
  if (page->rendezvous_at_ns == 0 || now < page->rendezvous_at_ns) return;
  page->at_rendezvous = 1;
  RingBell();
  page->at_rendezvous = 0;
}

static void EndPass(void) {
  const int64_t now = TellGuestTime();
  void* const ran = current_cpu;
  int index = IndexOf(ran);
  if (index < 0) {  // Before the first pass: QEMU is still making its vCPUs.
    ListVcpus();
    index = IndexOf(ran);
  }
  if (index < 0) return;
  MeetIfDue(now);
  const int64_t halt = __atomic_load_n(&page->halt, __ATOMIC_RELAXED);
  if (halt == kHalt || (halt == kHaltInOrder && index + 1 == count)) {
    if (!VcpusAreHalted()) {
      __atomic_store_n(&page->halted, 1, __ATOMIC_RELEASE);
      WakeMainThread();
    }
    for (int i = 0; i < count; ++i) cpu_exit(vcpus[i]);
    return;
  }
  if (count < 2) {
    MoveTimer(page->rendezvous_at_ns);
    return;
  }
  // An exit request of somebody else's: the pass has ended before it executed anything.
  if (timer_at != 0 && ran == before && now == began_at) return;
  const int64_t turn = page->turn_ns;
  // Where no time passed the vCPU had no turn: a machine that stands still makes passes, too.
  if (timer_at != 0 && runner >= 0 && now != began_at) {
    const int64_t rest = length - (now - began_at);
    owed[runner] = rest <= 0 || cpu_thread_is_idle(vcpus[runner]) ? 0 : rest < turn ? rest : turn;
  }

  const int next = (index + 1) % count;
  runner = FirstBusy(next, count);
  before = ran;
  began_at = now;
  length = turn + (runner < 0 ? 0 : owed[runner]);
  MoveTimer(now + length);
  if (runner < 0 || runner + 1 == count) return;
  // A vCPU that spins with PAUSE leaves after some instructions, again and again: while all others
  // are idle, it is cheaper without a pass of its own.
  if (owed[runner] == 0 || FirstBusy(runner + 1, count) >= 0 || FirstBusy(0, runner) >= 0) {
    cpu_exit(vcpus[runner + 1]);
  }
}

struct Page* SharedPage(void) {
  return page;
}

void RestartVcpuTurns(void) {
  MoveTimer(0);
  for (int i = 0; i < count; ++i) owed[i] = 0;
  before = NULL;
  runner = 0;
  began_at = 0;
  length = 0;
  page->halt = 0;
  __atomic_store_n(&page->halted, 0, __ATOMIC_RELEASE);
  TellGuestTime();
}

bool VcpusAreHalted(void) {
  return page != NULL && __atomic_load_n(&page->halted, __ATOMIC_RELAXED) != 0;
}

void VcpuThreadWaits(void) {
  if (page != NULL) TellGuestTime();
  // QEMU skips idle time in one step, up to the nearest timer.
  MoveTimer(0);
}

// The link to the next vCPU in the first one, while QEMU counts them.
static void** hidden_in;
static void* hidden;

static void ShowOneVcpu(void) {
  struct QemuQueue* const queue = &cpus_queue ? &cpus_queue : &cpus;
  ListVcpus();
  if (!queue || count < 2) return;
  const ptrdiff_t link = (char*)queue->last - (char*)vcpus[count - 1];
  for (int i = 0; i < count; ++i) {
    if (*(void**)((char*)vcpus[i] + link) != (i + 1 < count ? vcpus[i + 1] : NULL)) return;
  }
  hidden_in = (void**)((char*)vcpus[0] + link);
  hidden = *hidden_in;
  *hidden_in = NULL;
}

void VcpuThreadLocked(pthread_mutex_t* mutex) {
  static bool counted;
  if (mutex == pass_ends) {
    if (page != NULL && HoldsQemuLock()) EndPass();
  } else if (learning && pass_ends == NULL) {
    pass_ends = mutex;
  } else if (!counted && mutex == &qemu_cpu_list_lock && icount_percpu_budget) {
    counted = true;
    ShowOneVcpu();
  }
}

void VcpuThreadUnlocks(pthread_mutex_t* mutex) {
  if (hidden_in == NULL || mutex != &qemu_cpu_list_lock) return;
  *hidden_in = hidden;
  hidden_in = NULL;
}
