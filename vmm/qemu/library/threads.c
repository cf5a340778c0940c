// SPDX-License-Identifier: Apache-2.0
//
// Loaded into QEMU ahead of its libraries (LD_PRELOAD): makes its two threads take turns, so that
// the execution of a guest does not depend on which of them the host's scheduler runs.
//
// QEMU in virtual time (icount, one TCG thread) has a vCPU thread, which executes all vCPUs, and a
// main thread, which advances the clock and runs due timers when all vCPUs are idle. The vCPU
// thread also runs due timers, between two slices of execution. Which thread comes first, and how
// often the main thread wakes up, decides which vCPU runs next (QEMU's accel/tcg/
// tcg-accel-ops-rr.c and tcg-accel-ops-icount.c, util/main-loop.c). So a main thread that wakes up
// once too often, or late, changes the execution of the run.
//
// With this library, the main thread leaves its ppoll() only while the vCPU thread waits in
// pthread_cond_wait(). A signal on that condition variable gives the turn back to the vCPU thread.
// The main thread waits for its turn for kPatienceNs at most: vCPUs that never idle give none.
//
// The guest's bell (vmm/window_abi.h) is a device whose handler writes a byte to the pipe that
// KTSTR_BELL_FD names, on the vCPU thread and with QEMU's lock held. The library lets that write
// return when a byte has come from KTSTR_BELL_ANSWER_FD. Until then no vCPU executes, the clock
// stands still, and the main thread waits. At a rendezvous (vcpu_turns.c) the library rings itself.
//
// The library knows the vCPU thread by its name ("ALL CPUs/TCG", with -name debug-threads=on). When
// that thread starts, the library writes one byte to the descriptor that KTSTR_TURNS_FD names: the
// threads take turns from then on. The byte is "b" when the vCPUs' turns are bounded
// (vcpu_turns.c), else "t".

#define _GNU_SOURCE
#include "vmm/qemu/library/threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "vmm/qemu/library/rewind.h"
#include "vmm/qemu/library/vcpu_turns.h"

#define EXPORT __attribute__((visibility("default")))

enum { kPatienceNs = 1000000000, kHaltedPauseUs = 50 };

static int (*real_ppoll)(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*);
static int (*real_wait)(pthread_cond_t*, pthread_mutex_t*);
static int (*real_broadcast)(pthread_cond_t*);
static int (*real_signal)(pthread_cond_t*);
static int (*real_gettimeofday)(struct timeval*, void*);
static int (*real_setname)(pthread_t, const char*);
static int (*real_lock)(pthread_mutex_t*);
static int (*real_unlock)(pthread_mutex_t*);
static ssize_t (*real_writev)(int, const struct iovec*, int);

// What the vCPU thread waits on; 0 while it runs.
static _Atomic uintptr_t waits_on;
static atomic_int vcpu_thread_is_known;
static atomic_int at_bell;  // The vCPU thread waits for an answer.
static atomic_uint bells_answered;
static int parked_event = -1;  // Readable after the vCPU thread began to wait, or came to a halt.
static __thread int is_vcpu_thread __attribute__((tls_model("initial-exec")));

static void* Next(const char* name, const char* version) {
  return version == NULL ? dlsym(RTLD_NEXT, name) : dlvsym(RTLD_NEXT, name, version);
}

// The wrappers call it too: another library's constructor may call one before this constructor
// runs.
__attribute__((constructor)) static void Load(void) {
  if (real_ppoll != NULL) return;
  // glibc has older versions of the condition variables' functions under the same names.
  *(void**)&real_wait = Next("pthread_cond_wait", "GLIBC_2.3.2");
  *(void**)&real_broadcast = Next("pthread_cond_broadcast", "GLIBC_2.3.2");
  *(void**)&real_signal = Next("pthread_cond_signal", "GLIBC_2.3.2");
  *(void**)&real_gettimeofday = Next("gettimeofday", NULL);
  *(void**)&real_setname = Next("pthread_setname_np", NULL);
  *(void**)&real_lock = Next("pthread_mutex_lock", NULL);
  *(void**)&real_unlock = Next("pthread_mutex_unlock", NULL);
  *(void**)&real_writev = Next("writev", NULL);
  *(void**)&real_ppoll = Next("ppoll", NULL);
  if (!real_ppoll || !real_writev || !real_wait || !real_broadcast || !real_signal ||
      !real_gettimeofday || !real_setname || !real_lock || !real_unlock) {
    abort();
  }
  parked_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  // The programs that QEMU starts do not need this library.
  unsetenv("LD_PRELOAD");
}

static void SayWhatWorks(bool vcpu_turns) {
  const char* fd = getenv("KTSTR_TURNS_FD");
  if (fd == NULL || parked_event < 0) return;
  if (write(atoi(fd), vcpu_turns ? "b" : "t", 1) == 1) close(atoi(fd));
}

EXPORT int pthread_setname_np(pthread_t thread, const char* name) {
  Load();
  if (pthread_equal(thread, pthread_self()) && strstr(name, "/TCG") != NULL) {
    is_vcpu_thread = 1;
    atomic_store(&vcpu_thread_is_known, 1);
    SayWhatWorks(StartVcpuTurns());
  }
  return real_setname(thread, name);
}

void WakeMainThread(void) { eventfd_write(parked_event, 1); }

EXPORT int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  if (!is_vcpu_thread) {
    Load();
    return real_wait(condition, mutex);
  }
  VcpuThreadWaits();
  atomic_store(&waits_on, (uintptr_t)condition);
  WakeMainThread();
  const int result = real_wait(condition, mutex);
  atomic_store(&waits_on, 0);
  return result;
}

EXPORT int pthread_mutex_lock(pthread_mutex_t* mutex) {
  if (real_lock == NULL) Load();
  const int result = real_lock(mutex);
  if (is_vcpu_thread) VcpuThreadLocked(mutex);
  return result;
}

EXPORT int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  if (real_unlock == NULL) Load();
  if (!is_vcpu_thread) return real_unlock(mutex);
  VcpuThreadUnlocks(mutex);
  const int result = real_unlock(mutex);
  // The main thread waits for a lock that this thread takes again at once.
  if (VcpusAreHalted()) usleep(kHaltedPauseUs);
  return result;
}

static void GiveTurn(pthread_cond_t* condition) {
  uintptr_t expected = (uintptr_t)condition;
  atomic_compare_exchange_strong(&waits_on, &expected, 0);
}

EXPORT int pthread_cond_broadcast(pthread_cond_t* condition) {
  Load();
  GiveTurn(condition);
  return real_broadcast(condition);
}

EXPORT int pthread_cond_signal(pthread_cond_t* condition) {
  Load();
  GiveTurn(condition);
  return real_signal(condition);
}

// QEMU resizes the emulated TLB by host time (accel/tcg/cputlb.c, tlb_mmu_resize_locked: a window
// of 100 ms). This clock makes it depend on the number of flushes instead: each one takes a
// millisecond.
EXPORT int gettimeofday(struct timeval* now, void* zone) {
  if (!is_vcpu_thread) {
    Load();
    return real_gettimeofday(now, zone);
  }
  static int64_t milliseconds;
  ++milliseconds;
  now->tv_sec = 4102444800 + milliseconds / 1000;
  now->tv_usec = milliseconds % 1000 * 1000;
  return 0;
}

static int FdOf(const char* variable) {
  const char* fd = getenv(variable);
  return fd == NULL ? -1 : atoi(fd);
}

// QEMU opens the pipe again by its name, under another number.
static bool IsBell(int fd) {
  static struct stat bell;
  if (bell.st_ino == 0 && fstat(FdOf("KTSTR_BELL_FD"), &bell) != 0) return false;
  struct stat info;
  return fstat(fd, &info) == 0 && info.st_ino == bell.st_ino && info.st_dev == bell.st_dev;
}

static void AwaitAnswer(void) {
  static int answers = -1;
  if (answers < 0) answers = FdOf("KTSTR_BELL_ANSWER_FD");
  atomic_store(&at_bell, 1);
  char byte;
  ssize_t got;
  do got = read(answers, &byte, 1);
  while (got < 0 && errno == EINTR);
  // Without ktstr-vm the machine is of no use to anybody.
  if (got != 1) _exit(1);
  atomic_fetch_add(&bells_answered, 1);
  atomic_store(&at_bell, 0);
}

void RingBell(void) {
  ssize_t written;
  do written = write(FdOf("KTSTR_BELL_FD"), "", 1);
  while (written < 0 && errno == EINTR);
  if (written != 1) _exit(1);
  AwaitAnswer();
}

EXPORT ssize_t writev(int fd, const struct iovec* parts, int count) {
  Load();
  const bool rings = is_vcpu_thread && IsBell(fd);
  if (rings) TellWhetherItRewinds();
  const ssize_t written = real_writev(fd, parts, count);
  if (rings && written > 0) AwaitAnswer();
  return written;
}

static int64_t NowNs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void AwaitTurn(void) {
  int64_t end = NowNs() + kPatienceNs;
  unsigned answered = atomic_load(&bells_answered);
  while (atomic_load(&waits_on) == 0 && !VcpusAreHalted()) {
    // The time at a bell does not count.
    const unsigned now_answered = atomic_load(&bells_answered);
    if (atomic_load(&at_bell) || now_answered != answered) end = NowNs() + kPatienceNs;
    answered = now_answered;
    const int64_t left = end - NowNs();
    if (left <= 0) return;
    struct pollfd parked = {.fd = parked_event, .events = POLLIN};
    const struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    eventfd_t count;
    if (real_ppoll(&parked, 1, &timeout, NULL) == 1) eventfd_read(parked_event, &count);
  }
}

EXPORT int ppoll(struct pollfd* fds, nfds_t count, const struct timespec* timeout,
                 const sigset_t* mask) {
  Load();
  const int ready = real_ppoll(fds, count, timeout, mask);
  if (ready < 0 || gettid() != getpid() || !atomic_load(&vcpu_thread_is_known)) return ready;
  const int error = errno;
  AwaitTurn();
  RewindIfAsked();
  errno = error;
  return ready;
}
