// SPDX-License-Identifier: Apache-2.0
#include "guest/cpu_disturber.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

using v1::Perturbation;

constexpr uint64_t kStormStepNs = 50'000;
constexpr size_t kMaxTimers = 64;
// The kernel refuses with EBUSY while something else changes CPUs.
constexpr int kOnlineTries = 20;
constexpr uint64_t kOnlineRetryNs = 5 * kNsPerMs;

void Futex(std::atomic<uint32_t>* word, int operation, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), operation, value, nullptr, nullptr, 0);
}

int Membarrier(int command) { return static_cast<int>(syscall(SYS_membarrier, command, 0, 0)); }

timespec TimespecOf(uint64_t ns) {
  return {.tv_sec = static_cast<time_t>(ns / kNsPerSecond),
          .tv_nsec = static_cast<long>(ns % kNsPerSecond)};
}

void SleepUntil(uint64_t ns) {
  const timespec until = TimespecOf(ns);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

void SpinUntil(uint64_t ns) {
  // At a pause, an emulator that runs the CPUs in turn goes on to the next one.
  while (MonotonicNs() < ns) __builtin_ia32_pause();
}

bool Pin(pid_t pid, uint32_t cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(pid, sizeof(set), &set) == 0;
}

// Each of the functions below returns 0, or an errno.

int RunTimers(uint64_t begin, uint64_t length) {
  static int timers[kMaxTimers];
  static bool made = false;
  if (!made) {
    for (int& timer : timers) {
      timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
      if (timer < 0) return errno;
    }
    made = true;
  }
  const size_t count = std::min<size_t>(kMaxTimers, length / kStormStepNs);
  for (size_t i = 0; i < count; ++i) {
    const itimerspec at = {.it_interval = {},
                           .it_value = TimespecOf(begin + (i + 1) * kStormStepNs)};
    if (timerfd_settime(timers[i], TFD_TIMER_ABSTIME, &at, nullptr) != 0) return errno;
  }
  SleepUntil(begin + length);
  return 0;
}

int RunIpis(uint64_t begin, uint64_t length) {
  // Each call waits for all CPUs that it interrupts: where they run in turn, one call may take the
  // whole length.
  for (uint64_t at = begin; MonotonicNs() < begin + length; at += kStormStepNs) {
    SpinUntil(at);
    if (Membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0) return errno;
  }
  return 0;
}

int SetOnline(const std::string& file, bool online) {
  const base::UniqueFd fd(open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0) return errno;
  return write(fd.get(), online ? "1" : "0", 1) == 1 ? 0 : errno;
}

int BringOnline(const std::string& file) {
  int error = SetOnline(file, true);
  for (int i = 1; i < kOnlineTries && error == EBUSY; ++i) {
    SleepUntil(MonotonicNs() + kOnlineRetryNs);
    error = SetOnline(file, true);
  }
  return error;
}

std::string OnlineFile(const std::string& cpus, uint32_t cpu) {
  return absl::StrCat(cpus, "/cpu", cpu, "/online");
}

int RunHotplug(const std::string& file, uint64_t length) {
  if (const int error = SetOnline(file, false); error != 0) return error;
  SleepUntil(MonotonicNs() + length);
  return BringOnline(file);
}

}  // namespace

struct alignas(64) CpuDisturber::Slot {
  // Written by the agent.
  // A futex: how many commands were given; kEnd: no more. The fields below are the last one's.
  std::atomic<uint32_t> command;
  Perturbation::Kind kind;
  uint32_t cpu;
  uint64_t length_ns;
  // Written by the child, valid when `done` == `command`.
  std::atomic<uint32_t> done;
  uint64_t begin_ns;
  uint64_t end_ns;
  int error;

  static constexpr uint32_t kEnd = ~0u;
};

absl::StatusOr<std::unique_ptr<CpuDisturber>> CpuDisturber::Make(const v1::GuestPerturb& plan,
                                                                 const CpuDisturberOptions& options,
                                                                 Reaper* reaper) {
  bool on_cpus = false;
  bool hotplug = false;
  for (const v1::GuestDisturbance& disturbance : plan.disturbance()) {
    hotplug |= disturbance.kind() == Perturbation::HOTPLUG;
    on_cpus |= disturbance.kind() == Perturbation::BURST ||
               disturbance.kind() == Perturbation::TIMERS ||
               disturbance.kind() == Perturbation::IPIS;
    // Children inherit the registration. A kernel without it fails each membarrier, which the
    // perturber counts.
    if (disturbance.kind() == Perturbation::IPIS)
      Membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
  }
  const size_t count = plan.cpus() + 1;
  void* memory = mmap(nullptr, count * sizeof(Slot), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return base::ErrnoStatus(errno, "mmap of the perturber's slots");
  std::unique_ptr<CpuDisturber> disturber(
      new CpuDisturber(options, reaper, static_cast<Slot*>(memory), count));
  for (uint32_t cpu = 0; on_cpus && cpu < plan.cpus(); ++cpu)
    KTSTR_RETURN_IF_ERROR(disturber->Fork(cpu, cpu));
  if (hotplug) KTSTR_RETURN_IF_ERROR(disturber->Fork(count - 1, 0));
  return disturber;
}

CpuDisturber::~CpuDisturber() {
  for (const Child& child : children_) {
    if (child.pid >= 0) reaper_->Signal(child.pid, SIGKILL);
  }
  munmap(slots_, children_.size() * sizeof(Slot));
}

absl::Status CpuDisturber::Fork(size_t index, uint32_t cpu) {
  const pid_t pid = fork();
  if (pid < 0)
    return base::ErrnoStatus(errno, absl::StrCat("fork of the perturber's child ", index));
  if (pid == 0) {
    ResetSignals();
    Serve(options_, &slots_[index]);
  }
  reaper_->Watch(pid);
  children_[index].pid = pid;
  if (!Pin(pid, cpu)) return base::ErrnoStatus(errno, absl::StrCat("pin a child to CPU ", cpu));
  if (options_.priority == 0) return absl::OkStatus();
  sched_param param{};
  param.sched_priority = options_.priority;
  if (sched_setscheduler(pid, SCHED_FIFO, &param) != 0)
    return base::ErrnoStatus(errno, "SCHED_FIFO for the perturber's child");
  return absl::OkStatus();
}

void CpuDisturber::Serve(const CpuDisturberOptions& options, Slot* slot) {
  prctl(PR_SET_NAME, "kt-perturb");
  for (uint32_t served = 0;; slot->done.store(served, std::memory_order_release)) {
    uint32_t command = slot->command.load(std::memory_order_acquire);
    for (; command == served; command = slot->command.load(std::memory_order_acquire))
      Futex(&slot->command, FUTEX_WAIT, served);
    if (command == Slot::kEnd) _exit(0);
    served = command;
    slot->begin_ns = MonotonicNs();
    if (slot->kind == Perturbation::HOTPLUG) {
      slot->error = RunHotplug(OnlineFile(options.cpus, slot->cpu), slot->length_ns);
    } else if (!Pin(0, slot->cpu)) {  // Again: an offline CPU loses its child.
      slot->error = errno;
    } else if (slot->kind == Perturbation::TIMERS) {
      slot->error = RunTimers(slot->begin_ns, slot->length_ns);
    } else if (slot->kind == Perturbation::IPIS) {
      slot->error = RunIpis(slot->begin_ns, slot->length_ns);
    } else {
      SpinUntil(slot->begin_ns + slot->length_ns);
      slot->error = 0;
    }
    slot->end_ns = MonotonicNs();
  }
}

bool CpuDisturber::Busy(size_t index) const {
  const Child& child = children_[index];
  return child.pid < 0 || child.commands != child.taken;
}

bool CpuDisturber::Start(const Disturbance& disturbance) {
  const size_t last = children_.size() - 1;
  const bool hotplug = disturbance.kind == Perturbation::HOTPLUG;
  if (disturbance.cpu >= last) return false;
  const size_t index = hotplug ? last : disturbance.cpu;
  if (Busy(index)) return false;
  // No disturbance starts on a CPU that is offline, and no CPU goes offline during one.
  const Child& plugger = children_[last];
  if (!hotplug && plugger.commands != plugger.taken && plugger.asked.cpu == disturbance.cpu)
    return false;
  const Child& on_cpu = children_[disturbance.cpu];
  if (hotplug && on_cpu.commands != on_cpu.taken) return false;
  Child& child = children_[index];
  Slot& slot = slots_[index];
  child.asked = disturbance;
  slot.kind = disturbance.kind;
  slot.cpu = disturbance.cpu;
  slot.length_ns = disturbance.length_ns;
  slot.command.store(++child.commands, std::memory_order_release);
  Futex(&slot.command, FUTEX_WAKE, 1);
  return true;
}

std::vector<EndedDisturbance> CpuDisturber::TakeEnded() {
  std::vector<EndedDisturbance> ended;
  for (size_t i = 0; i < children_.size(); ++i) {
    Child& child = children_[i];
    const Slot& slot = slots_[i];
    if (child.commands == child.taken ||
        slot.done.load(std::memory_order_acquire) != child.commands)
      continue;
    child.taken = child.commands;
    EndedDisturbance& entry = ended.emplace_back();
    entry.asked = child.asked;
    entry.begin_ns = slot.begin_ns;
    entry.length_ns = slot.end_ns - slot.begin_ns;
    if (slot.error != 0) {
      entry.status = base::ErrnoStatus(
          slot.error,
          absl::StrCat(Perturbation::Kind_Name(child.asked.kind), " on CPU ", child.asked.cpu));
    }
  }
  return ended;
}

bool CpuDisturber::Idle() const {
  for (size_t i = 0; i < children_.size(); ++i) {
    if (slots_[i].done.load(std::memory_order_acquire) != children_[i].commands) return false;
  }
  return true;
}

void CpuDisturber::End() {
  for (size_t i = 0; i < children_.size(); ++i) {
    if (children_[i].pid < 0) continue;
    slots_[i].command.store(Slot::kEnd, std::memory_order_release);
    Futex(&slots_[i].command, FUTEX_WAKE, 1);
  }
}

bool CpuDisturber::Ended() {
  reaper_->Reap();
  bool all = true;
  for (Child& child : children_) {
    if (child.pid >= 0 && reaper_->Take(child.pid).has_value()) child.pid = -1;
    all &= child.pid < 0;
  }
  return all;
}

void CpuDisturber::Kill() {
  for (const Child& child : children_) {
    if (child.pid >= 0) reaper_->Signal(child.pid, SIGKILL);
  }
  const Child& plugger = children_.back();
  if (slots_[children_.size() - 1].done.load(std::memory_order_acquire) == plugger.commands) return;
  // In an orphan: what the killed child waits for in the kernel may hold this write up, too.
  if (fork() == 0) {
    ResetSignals();
    BringOnline(OnlineFile(options_.cpus, plugger.asked.cpu));
    _exit(0);
  }
}

}  // namespace ktstr::guest
