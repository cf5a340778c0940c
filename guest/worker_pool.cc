// SPDX-License-Identifier: Apache-2.0
#include "guest/worker_pool.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "guest/operation.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

size_t BytesFor(uint32_t capacity) { return std::max<size_t>(1, capacity) * sizeof(WorkerSlot); }

}  // namespace

absl::StatusOr<WorkerSpec> WorkerSpecOf(const v1::GuestWork& work) {
  if (work.type() == "spin_wait") return WorkerSpec{.type = WorkerSpec::Type::kSpinWait};
  if (work.type() == "bursty") {
    return WorkerSpec{.type = WorkerSpec::Type::kBursty,
                      .burst_ns = work.burst_ns(),
                      .sleep_ns = work.sleep_ns()};
  }
  return absl::InvalidArgumentError(
      absl::StrCat("this agent has no work type '", work.type(), "'"));
}

absl::StatusOr<WorkerPool> WorkerPool::Make(uint32_t capacity, const Random* random, Reaper* reaper,
                                            Reporter* reporter) {
  void* memory =
      mmap(nullptr, BytesFor(capacity), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return base::ErrnoStatus(errno, absl::StrCat("mmap of slots for ", capacity, " workers"));
  return WorkerPool(static_cast<WorkerSlot*>(memory), capacity, random, reaper, reporter);
}

WorkerPool::WorkerPool(WorkerPool&& other) noexcept
    : slots_(std::exchange(other.slots_, nullptr)),
      capacity_(other.capacity_),
      random_(other.random_),
      reaper_(other.reaper_),
      reporter_(other.reporter_),
      workers_(std::move(other.workers_)) {}

WorkerPool::~WorkerPool() {
  if (slots_ != nullptr) munmap(slots_, BytesFor(capacity_));
}

absl::Status WorkerPool::Add(const CgroupTree& cgroups, const std::string& cgroup,
                             const v1::GuestWork& work) {
  KTSTR_ASSIGN_OR_RETURN(const WorkerSpec spec, WorkerSpecOf(work));
  if (work.workers() > capacity_ - workers_.size()) {
    return absl::InternalError(absl::StrCat("more workers than the ", capacity_, " of the plan"));
  }
  for (uint32_t i = 0; i < work.workers(); ++i) {
    WorkerSlot* slot = &slots_[workers_.size()];
    sigset_t stop;
    sigset_t before;
    sigemptyset(&stop);
    sigaddset(&stop, SIGUSR1);
    sigprocmask(SIG_BLOCK, &stop, &before);
    const pid_t pid = fork();
    const int error = errno;
    if (pid == 0) {
      ResetSignals(SIGUSR1);  // A stop may come before this worker ever ran.
      RunWorkerProcess(spec, slot);
    }
    sigprocmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) {
      return MarkOperation(base::ErrnoStatus(error, absl::StrCat("fork of worker ", workers_.size(),
                                                                 " for cgroup ", cgroup)),
                           v1::OperationFailed::FORK);
    }
    reaper_->Watch(pid);
    workers_.push_back({.pid = pid, .cgroup = cgroup, .type = work.type(), .nice = work.nice()});
    KTSTR_RETURN_IF_ERROR(cgroups.Place(cgroup, pid));
    if (work.nice() != 0) KTSTR_RETURN_IF_ERROR(SetNice(size() - 1, work.nice()));
  }
  return absl::OkStatus();
}

void WorkerPool::Start(uint32_t index, uint64_t start_ns) {
  WorkerSlot& slot = slots_[index];
  workers_[index].released = true;
  slot.start_ns = start_ns;
  slot.go.store(1, std::memory_order_release);
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&slot.go), FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

void WorkerPool::Release(uint64_t jitter_ns, uint64_t at_ns) {
  std::vector<uint32_t> waiting;
  for (uint32_t i = 0; i < workers_.size(); ++i) {
    if (!workers_[i].released) waiting.push_back(i);
  }
  // Fisher and Yates.
  for (size_t left = waiting.size(); left > 1; --left) {
    const uint64_t pick = random_->Below(left, stream::kReleaseOrder, waiting[left - 1], at_ns);
    std::swap(waiting[left - 1], waiting[pick]);
  }
  const uint64_t now = MonotonicNs();
  for (const uint32_t index : waiting)
    Start(index, now + random_->Between(0, jitter_ns, stream::kStartJitter, index, at_ns));
}

void WorkerPool::Stop() {
  const uint64_t now = MonotonicNs();
  for (uint32_t i = 0; i < workers_.size(); ++i) {
    slots_[i].stop_ns.store(now, std::memory_order_release);
    // A worker that was never released starts now, and ends at once.
    if (!workers_[i].released) Start(i, now);
  }
  for (const Worker& worker : workers_) {
    if (!worker.ended) reaper_->Signal(worker.pid, SIGUSR1);
  }
}

absl::Status WorkerPool::SetNice(uint32_t index, int nice) {
  const Worker& worker = workers_[index];
  if (setpriority(PRIO_PROCESS, static_cast<id_t>(worker.pid), nice) == 0) return absl::OkStatus();
  return base::ErrnoStatus(
      errno, absl::StrCat("nice value ", nice, " for a worker of cgroup '", worker.cgroup, "'"));
}

absl::Status WorkerPool::Move(uint32_t index, const CgroupTree& cgroups,
                              const std::string& cgroup) {
  return cgroups.Place(cgroup, workers_[index].pid);
}

bool WorkerPool::Poll() {
  reaper_->Reap();
  bool all = true;
  for (Worker& worker : workers_) {
    if (worker.ended) continue;
    if (std::optional<ChildEnd> end = reaper_->Take(worker.pid)) {
      worker.ended = true;
      worker.end = *end;
    } else {
      all = false;
    }
  }
  return all;
}

void WorkerPool::NoteLate() {
  for (Worker& worker : workers_) worker.late = !worker.ended;
}

void WorkerPool::Kill() {
  for (const Worker& worker : workers_) {
    if (!worker.ended) reaper_->Signal(worker.pid, SIGKILL);
  }
}

void WorkerPool::ReportAll(uint64_t scenario_start_ns) {
  for (uint32_t i = 0; i < workers_.size(); ++i) ReportOne(i, scenario_start_ns);
}

void WorkerPool::ReportOne(uint32_t index, uint64_t scenario_start_ns) {
  const Worker& worker = workers_[index];
  const WorkerSlot& slot = slots_[index];
  v1::Observation observation;
  if (slot.reported.load(std::memory_order_acquire) == 0) {
    v1::WorkerLost* lost = observation.mutable_worker_lost();
    lost->set_index(index);
    lost->set_cgroup(worker.cgroup);
    lost->set_work_type(worker.type);
    lost->set_exit_code(worker.end.code);
    lost->set_signal(static_cast<uint32_t>(worker.end.signal));
    lost->set_silent(!worker.ended);
    reporter_->Report(std::move(observation));
    return;
  }
  v1::WorkerReport* report = observation.mutable_worker_report();
  report->set_index(index);
  report->set_cgroup(worker.cgroup);
  report->set_work_type(worker.type);
  report->set_work_units(slot.work_units);
  report->set_iterations(slot.iterations);
  report->set_cpu_time_ns(slot.cpu_time_ns);
  report->set_wall_time_ns(WallNs(slot));
  report->set_off_cpu_ns(slot.off_cpu_ns);
  if (slot.ext_class != ExtClass::kUnknown) report->set_ext_class(slot.ext_class == ExtClass::kYes);
  report->set_sleep_ns(slot.sleep_ns);
  report->set_migrations(slot.migrations);
  for (uint32_t cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (slot.cpus_used[cpu / 64] >> (cpu % 64) & 1) report->add_cpus_used(cpu);
  }
  report->set_max_gap_ns(slot.max_gap_ns);
  report->set_max_gap_cpu(slot.max_gap_cpu);
  report->set_late(worker.late);
  report->set_max_gap_at_ns(slot.max_gap_end_ns - std::min(slot.max_gap_end_ns, scenario_start_ns));
  reporter_->Report(std::move(observation));
}

}  // namespace ktstr::guest
