// SPDX-License-Identifier: Apache-2.0
//
// What a guest sees of its virtual CPUs: run as the scheduler of a scenario, it prints figures and
// ends before it attaches anything. Static. In virtual time every figure repeats.
//
//   turn_probe [MULTIPLE]
//
// Compares the figures with MULTIPLE (default 1) times these bounds, and prints "within bounds" at
// the end when all hold:
//   round trip      of a byte through pipes between CPUs 0 and 1, while all others spin
//   timer           how late an absolute timer of 1 ms is on CPU 1, beside the same others
//   pause           the longest time in which a spinner that is alone on its CPU does not run
//   share           how much less work a spinner does in 100 ms than the one that does the most

#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kRounds = 400, kMaxCpus = 256, kWindows = 5, kWindowNs = 100000000, kSettleNs = 25000000 };

static int cpus;
static double multiple = 1;
static int exceeded;

static void Die(const char* what) {
  perror(what);
  exit(1);
}

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void SleepUntil(int64_t at) {
  const struct timespec until = {at / 1000000000, at % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) continue;
}

static void Pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof(set), &set) != 0) Die("sched_setaffinity");
}

// Nothing of the guest's fair class comes between.
static void BeAlone(void) {
  const struct sched_param param = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_FIFO, &param) != 0) Die("sched_setscheduler");
}

static void* Shared(size_t bytes) {
  void* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Die("mmap");
  memset(memory, 0, bytes);
  return memory;
}

static pid_t Fork(void) {
  const pid_t child = fork();
  if (child < 0) Die("fork");
  return child;
}

static void Report(const char* what, double value, double bound, const char* unit) {
  const int over = value > bound * multiple;
  exceeded += over;
  printf("%s: %.2f %s (bound %.2f)%s\n", what, value, unit, bound * multiple,
         over ? " EXCEEDED" : "");
}

static int Ascending(const void* a, const void* b) {
  const int64_t x = *(const int64_t*)a;
  const int64_t y = *(const int64_t*)b;
  return (x > y) - (x < y);
}

static double PercentileMs(int64_t* values, int percent) {
  qsort(values, kRounds, sizeof(*values), Ascending);
  return (double)values[kRounds * percent / 100] / 1e6;
}

static void Exchange(int from, int to) {
  char byte = 0;
  if (write(to, "x", 1) != 1 || read(from, &byte, 1) != 1) Die("pipe");
}

static void RoundTrips(void) {
  int there[2];
  int back[2];
  static int64_t took[kRounds];
  if (pipe(there) != 0 || pipe(back) != 0) Die("pipe");
  const pid_t peer = Fork();
  if (peer == 0) {
    char byte = 0;
    Pin(1);
    for (int i = 0; i < kRounds; ++i) {
      if (read(there[0], &byte, 1) != 1 || write(back[1], "x", 1) != 1) Die("pipe");
    }
    _exit(0);
  }
  Pin(0);
  SleepUntil(Now() + 20000000);
  for (int i = 0; i < kRounds; ++i) {
    const int64_t begin = Now();
    Exchange(back[0], there[1]);
    took[i] = Now() - begin;
    SleepUntil(Now() + 300000);
  }
  waitpid(peer, NULL, 0);
  Report("round trip, median", PercentileMs(took, 50), 0.6, "ms");
  Report("round trip, 99 %", PercentileMs(took, 99), 1.2, "ms");
}

static void Timers(void) {
  static int64_t late[kRounds];
  Pin(1);
  for (int i = 0; i < kRounds; ++i) {
    const int64_t at = Now() + 1000000;
    SleepUntil(at);
    late[i] = Now() - at;
  }
  Report("timer late, 99 %", PercentileMs(late, 99), 0.7, "ms");
}

struct Spinner {
  int64_t pause;
  int64_t looks[kWindows];
};

static void Spin(int cpu, int64_t begin, struct Spinner* out) {
  Pin(cpu);
  BeAlone();
  SleepUntil(begin - kSettleNs * cpus);
  int64_t last = Now();
  while (last < begin) last = Now();
  for (int window = 0; window < kWindows; ++window) {
    const int64_t end = begin + (window + 1) * (int64_t)kWindowNs;
    while (last < end) {
      const int64_t now = Now();
      if (now - last > out->pause) out->pause = now - last;
      last = now;
      ++out->looks[window];
    }
  }
  _exit(0);
}

static void Spinners(void) {
  struct Spinner* spinners = Shared(sizeof(*spinners) * kMaxCpus);
  // The kernel cleans up after the processes of the other figures meanwhile.
  const int64_t begin = Now() + (50000000LL + kSettleNs) * cpus;
  for (int cpu = 0; cpu < cpus; ++cpu) {
    if (Fork() == 0) Spin(cpu, begin, &spinners[cpu]);
  }
  while (wait(NULL) > 0) continue;
  int64_t pause = 0;
  double share = 0;
  for (int window = 0; window < kWindows; ++window) {
    int64_t most = 0;
    int64_t least = INT64_MAX;
    for (int cpu = 0; cpu < cpus; ++cpu) {
      const int64_t looks = spinners[cpu].looks[window];
      if (looks > most) most = looks;
      if (looks < least) least = looks;
      if (spinners[cpu].pause > pause) pause = spinners[cpu].pause;
    }
    const double apart = 100 * (1 - (double)least / (double)most);
    if (apart > share) share = apart;
  }
  Report("pause", (double)pause / 1e6, 4, "ms");
  Report("share", share, 3, "%");
}

int main(int argc, char** argv) {
  if (argc > 1) multiple = atof(argv[1]);
  cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (cpus < 2 || cpus > kMaxCpus) return 1;
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("%d CPUs\n", cpus);
  pid_t others[kMaxCpus];
  for (int cpu = 2; cpu < cpus; ++cpu) {
    others[cpu] = Fork();
    if (others[cpu] == 0) {
      Pin(cpu);
      while (1) continue;
    }
  }
  RoundTrips();
  Timers();
  for (int cpu = 2; cpu < cpus; ++cpu) {
    kill(others[cpu], SIGKILL);
    waitpid(others[cpu], NULL, 0);
  }
  Spinners();
  printf("%s\n", exceeded == 0 ? "within bounds" : "bounds exceeded");
  return 0;
}
