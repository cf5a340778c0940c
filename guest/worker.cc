// SPDX-License-Identifier: Apache-2.0
#include "guest/worker.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "guest/sched_ext.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

// Set by SIGUSR1; of this process alone.
volatile sig_atomic_t stop_requested = 0;

void OnStop(int) { stop_requested = 1; }

void MaskStop(int how) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(how, &set, nullptr);
}

// 4 instructions a spin. Virtual time counts instructions, and QEMU executes nothing for a NOP: a
// busy CPU costs the host next to nothing. The loop lies within one page, where QEMU chains its
// blocks, and is short enough that turns of the vCPUs end at few different places in it.
void Spin() {
  constexpr uint32_t kSpinsPerTurn = 32;
  static_assert(kSpinsPerLook % kSpinsPerTurn == 0);
  uint32_t turns = kSpinsPerLook / kSpinsPerTurn;
  asm volatile(
      ".balign 256\n"
      "1: .rept 4 * %c[spins]\n"
      "nop\n"
      ".endr\n"
      "dec %[turns]\n"
      "jnz 1b\n"
      : [turns] "+r"(turns)
      : [spins] "i"(kSpinsPerTurn)
      : "cc");
}

uint64_t ProcessCpuNs() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<uint64_t>(used.tv_sec) * kNsPerSecond + static_cast<uint64_t>(used.tv_nsec);
}

// Time spent runnable but waiting for a CPU: the second number of schedstat. 0 when the kernel
// keeps none.
uint64_t RunDelayNs() {
  const int fd = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[128];
  const ssize_t size = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (size <= 0) return 0;
  text[size] = '\0';
  char* rest = nullptr;
  strtoull(text, &rest, 10);
  return strtoull(rest, nullptr, 10);
}

ExtClass CurrentClass() {
  const int fd = open("/proc/self/sched", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ExtClass::kUnknown;
  char text[8192];  // Some 2 KiB are in use.
  size_t size = 0;
  ssize_t got = 0;
  while (size < sizeof(text) && (got = read(fd, text + size, sizeof(text) - size)) > 0)
    size += static_cast<size_t>(got);
  close(fd);
  const std::optional<bool> in_ext = InExtClass({text, size});
  if (!in_ext.has_value()) return ExtClass::kUnknown;
  return *in_ext ? ExtClass::kYes : ExtClass::kNo;
}

void WaitForGo(std::atomic<uint32_t>* go) {
  while (go->load(std::memory_order_acquire) == 0) {
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(go), FUTEX_WAIT, 0, nullptr, nullptr, 0);
  }
}

// Sleeps for `ns` or until SIGUSR1, and returns how long: `ns` at most. The signal is unblocked
// only inside ppoll(), so that the worker does not sleep through one that comes just before.
uint64_t Sleep(uint64_t ns) {
  sigset_t during;
  MaskStop(SIG_BLOCK);
  sigprocmask(SIG_BLOCK, nullptr, &during);
  sigdelset(&during, SIGUSR1);
  const uint64_t begin = MonotonicNs();
  if (stop_requested == 0) {
    const timespec length = {.tv_sec = static_cast<time_t>(ns / kNsPerSecond),
                             .tv_nsec = static_cast<long>(ns % kNsPerSecond)};
    ppoll(nullptr, 0, &length, &during);
  }
  const uint64_t slept = std::min(ns, MonotonicNs() - begin);
  MaskStop(SIG_UNBLOCK);
  return slept;
}

class Worker {
 public:
  Worker(const WorkerSpec& spec, WorkerSlot* slot) : spec_(spec), slot_(slot), tracker_(slot) {}

  void Run() {
    Look(0);
    if (spec_.type == WorkerSpec::Type::kSpinWait) {
      while (stop_requested == 0) Iterate();
      return;
    }
    while (stop_requested == 0) {
      for (const uint64_t begin = MonotonicNs();
           stop_requested == 0 && now_ns_ - std::min(begin, now_ns_) < spec_.burst_ns;) {
        Iterate();
      }
      if (stop_requested != 0) return;
      const uint64_t slept = Sleep(spec_.sleep_ns);
      slot_->sleep_ns += slept;
      Look(slept);
    }
  }

 private:
  void Look(uint64_t own_sleep_ns) {
    now_ns_ = MonotonicNs();
    const int cpu = sched_getcpu();
    tracker_.Look(now_ns_, cpu < 0 ? 0 : static_cast<uint32_t>(cpu), own_sleep_ns);
  }
  void Iterate() {
    Spin();
    slot_->work_units += kSpinsPerLook;
    ++slot_->iterations;
    Look(0);
  }

  const WorkerSpec& spec_;
  WorkerSlot* slot_;
  LookTracker tracker_;
  uint64_t now_ns_ = 0;
};

}  // namespace

void LookTracker::Look(uint64_t now_ns, uint32_t cpu, uint64_t own_sleep_ns) {
  // Time after the stop is the harness's, not the scheduler's.
  const uint64_t stop_ns = slot_->stop_ns.load(std::memory_order_acquire);
  const uint64_t end_ns = stop_ns == 0 ? now_ns : std::min(now_ns, stop_ns);
  const uint64_t passed = end_ns - std::min(end_ns, last_ns_);
  const uint64_t gap = passed - std::min(passed, own_sleep_ns);
  if (gap > slot_->max_gap_ns) {
    slot_->max_gap_ns = gap;
    slot_->max_gap_cpu = cpu;
    slot_->max_gap_end_ns = end_ns;
  }
  if (last_cpu_ != kNoCpu && cpu != last_cpu_) ++slot_->migrations;
  if (cpu < kMaxCpus) slot_->cpus_used[cpu / 64] |= uint64_t{1} << (cpu % 64);
  last_ns_ = now_ns;
  last_cpu_ = cpu;
}

uint64_t WallNs(const WorkerSlot& slot) {
  const uint64_t stop_ns = slot.stop_ns.load(std::memory_order_acquire);
  return stop_ns - std::min(stop_ns, slot.start_ns);
}

void RunWorkerProcess(const WorkerSpec& spec, WorkerSlot* slot) {
  // A name that shows in the kernel's reports about tasks.
  prctl(PR_SET_NAME, spec.type == WorkerSpec::Type::kSpinWait ? "kt-spin_wait" : "kt-bursty");
  struct sigaction action {};
  action.sa_handler = OnStop;
  sigaction(SIGUSR1, &action, nullptr);
  const uint64_t delay_before = RunDelayNs();
  WaitForGo(&slot->go);
  slot->ext_class = CurrentClass();
  // The wait for its start counts as its own sleep: neither as a gap nor as wall time.
  if (const uint64_t now = MonotonicNs(); now < slot->start_ns) Sleep(slot->start_ns - now);
  const uint64_t cpu_before = ProcessCpuNs();
  MaskStop(SIG_UNBLOCK);
  Worker(spec, slot).Run();
  const uint64_t delay = RunDelayNs() - delay_before;
  slot->off_cpu_ns = std::min(delay, WallNs(*slot));
  slot->cpu_time_ns = ProcessCpuNs() - cpu_before;
  slot->ext_class = std::max(slot->ext_class, CurrentClass());
  slot->reported.store(1, std::memory_order_release);
  _exit(0);
}

}  // namespace ktstr::guest
