// SPDX-License-Identifier: Apache-2.0

#include "scenario/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/cpu_list.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "scenario/checks.h"
#include "scenario/cpuset.h"
#include "scenario/facts.h"
#include "scenario/perturb.h"
#include "scenario/work_types.h"

namespace ktstr::scenario {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
// Fractions such as 0.7 + 0.2 + 0.1 add up to a little more than 1.
constexpr double kRounding = 1e-9;
constexpr uint32_t kDefaultMemoryMb = 1024;
constexpr uint32_t kMemoryMbPerCpu = 64;
constexpr uint32_t kMinReportTimeoutMs = 5000;
// A generous bound for the agent's own work: unpacking, cgroups, starting workers.
constexpr uint64_t kAgentMs = 30'000;
// Workers start at different times, as on a real machine, but soon: a hold is much longer.
constexpr uint64_t kMaxStartJitterNs = 2 * kNsPerMs;
constexpr uint64_t kStartJitterPart = 16;
// Of the attach in a snapshot that runs of all seeds start from.
constexpr uint64_t kAttachSeed = 1;

uint32_t NonZero(uint32_t value, uint32_t otherwise) { return value != 0 ? value : otherwise; }

v1::GuestWork MakeWork(const v1::Work& work) {
  v1::GuestWork out;
  const WorkType* type = WorkTypeOf(work);
  out.set_type(std::string(type->name));
  out.set_workers(work.workers());
  out.set_nice(work.nice());
  if (work.has_bursty()) {
    out.set_burst_ns(kNsPerMs * WorkValue(work, "burst_ms"));
    out.set_sleep_ns(kNsPerMs * WorkValue(work, "sleep_ms"));
  }
  return out;
}

// NUMA nodes of these CPUs.
std::vector<int> NodesOf(const std::vector<int>& cpus, const Topology& topology) {
  std::vector<int> nodes;
  for (int cpu : cpus) {
    const int node = topology.NodeOfCpu(cpu);
    if (nodes.empty() || nodes.back() != node) nodes.push_back(node);
  }
  return nodes;
}

absl::StatusOr<v1::GuestCgroup> MakeCgroup(const v1::Cgroup& cgroup, const Topology& topology) {
  v1::GuestCgroup out;
  out.set_name(cgroup.name());
  out.set_weight(cgroup.weight());
  if (cgroup.has_cpuset()) {
    KTSTR_ASSIGN_OR_RETURN(const std::vector<int> cpus, ResolveCpuset(cgroup.cpuset(), topology));
    out.set_cpus(base::FormatCpuList(cpus));
    out.set_mems(base::FormatCpuList(NodesOf(cpus, topology)));
  }
  for (const v1::Work& work : cgroup.work()) *out.add_work() = MakeWork(work);
  return out;
}

uint32_t AttachMs(const v1::Scheduler& scheduler) {
  return NonZero(scheduler.attach_timeout_ms(), kDefaultAttachTimeoutMs);
}

// A disturbance that runs at the steps' end takes some 10 ms more. Where the kernel's threads wait
// for the scheduler under test (`hotplug` needs them), it takes until the kernel's watchdog ejects
// that, after at most 30 s.
uint32_t PerturberMs(const v1::Scenario& scenario) {
  return scenario.has_scheduler() ? 45'000 : 5'000;
}

// guest/cpu_disturber.h
bool NeedsChildren(v1::Perturbation::Kind kind) {
  return kind == v1::Perturbation::BURST || kind == v1::Perturbation::TIMERS ||
         kind == v1::Perturbation::IPIS || kind == v1::Perturbation::HOTPLUG;
}

// 0: a restart is an end.
uint32_t RestartMs(const v1::Scheduler& scheduler) {
  if (scheduler.on_restart() == v1::Scheduler::FAIL) return 0;
  return NonZero(scheduler.restart_timeout_ms(), kDefaultRestartTimeoutMs);
}

void FillScheduler(const v1::Scheduler& scheduler, std::string_view guest_path,
                   v1::GuestScheduler* out) {
  out->set_path(std::string(guest_path));
  out->set_display_name(std::string(base::Basename(scheduler.name())));
  *out->mutable_args() = scheduler.args();
  out->set_attach_timeout_ms(AttachMs(scheduler));
  out->set_still_timeout_ms(kStillTimeoutMs);
  out->set_stop_timeout_ms(kStopTimeoutMs);
  out->set_restart_timeout_ms(RestartMs(scheduler));
}

uint32_t OverrunMs(const v1::Scenario& scenario, const Holds& holds) {
  uint64_t total_ms = kAgentMs + ReportTimeoutMs(scenario);
  for (const uint64_t ns : holds.ns) total_ms += ns / kNsPerMs + 1;
  if (scenario.has_scheduler()) total_ms += AttachMs(scenario.scheduler()) + kStopTimeoutMs;
  return static_cast<uint32_t>(std::min<uint64_t>(total_ms, std::numeric_limits<uint32_t>::max()));
}

}  // namespace

uint32_t MemoryMb(const v1::Scenario& scenario, const Topology& topology) {
  const uint32_t by_cpus = kMemoryMbPerCpu * static_cast<uint32_t>(topology.num_cpus());
  return NonZero(scenario.memory_mb(), std::max(kDefaultMemoryMb, by_cpus));
}

uint32_t AttachTimeoutMs(const v1::Scenario& scenario) {
  return scenario.has_scheduler() ? AttachMs(scenario.scheduler()) : 0;
}

std::string AttachText(const v1::AttachProgress& progress) {
  std::string text =
      absl::StrFormat("%.1fs of CPU time", static_cast<double>(progress.cpu_ns()) / 1e9);
  if (progress.programs() == 0) return absl::StrCat(text, " and no BPF program");
  absl::StrAppend(&text, " and ", progress.programs(),
                  progress.programs() == 1 ? " BPF program" : " BPF programs");
  if (!progress.newest_program().empty())
    absl::StrAppend(&text, ", the newest ", OneLine(progress.newest_program()));
  return text;
}

uint32_t RestartTimeoutMs(const v1::Scenario& scenario) {
  return scenario.has_scheduler() ? RestartMs(scenario.scheduler()) : 0;
}

uint64_t GuestLimitMs(const v1::Scenario& scenario) {
  // After the steps: the agent waits for the disturbances, for the workers at most twice, and kills
  // a scheduler that does not stop; before that, for a restart.
  return uint64_t{OverrunMs(scenario, ResolveHolds(scenario))} +
         uint64_t{2} * ReportTimeoutMs(scenario) + uint64_t{2} * kStopTimeoutMs + kAgentMs +
         uint64_t{2} * RestartTimeoutMs(scenario) +
         (scenario.has_perturb() ? PerturberMs(scenario) : 0);
}

uint32_t VcpuMips(const v1::Scenario& scenario) {
  return scenario.has_vcpu_mips() ? scenario.vcpu_mips() : kDefaultVcpuMips;
}

uint64_t SeedOf(const v1::Scenario& scenario) { return scenario.seed() != 0 ? scenario.seed() : 1; }

uint32_t DurationMs(const v1::Scenario& scenario) {
  return NonZero(scenario.duration_ms(), kDefaultDurationMs);
}

uint32_t MaxGapMs(const v1::Scenario& scenario) {
  return static_cast<uint32_t>(*ValueOf(scenario.checks(), v1::Checks::kMaxGapMsFieldNumber));
}

uint32_t ReportTimeoutMs(const v1::Scenario& scenario) {
  return std::max(kMinReportTimeoutMs, MaxGapMs(scenario) + 1000);
}

std::string WorkTypes(const v1::Scenario& scenario) {
  std::vector<std::string> names;
  for (const v1::Step& step : scenario.step()) {
    for (const v1::Cgroup& cgroup : step.cgroup()) {
      for (const v1::Work& work : cgroup.work()) {
        const WorkType* type = WorkTypeOf(work);
        if (type == nullptr) continue;
        const std::string name(type->name);
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
    }
  }
  return absl::StrJoin(names, "+");
}

Holds ResolveHolds(const v1::Scenario& scenario) {
  Holds holds;
  const uint32_t duration_ms = DurationMs(scenario);
  const uint64_t duration_ns = kNsPerMs * duration_ms;
  double fractions = 0;
  uint64_t used_ns = 0;
  int shares = 0;
  int last_given = -1;
  for (int i = 0; i < scenario.step_size(); ++i) {
    const v1::Hold& hold = scenario.step(i).hold();
    uint64_t ns = 0;
    if (hold.length_case() == v1::Hold::kFraction) {
      if (!std::isfinite(hold.fraction()) || hold.fraction() <= 0 || hold.fraction() > 1) {
        holds.problems.emplace_back(
            i, absl::StrCat("hold fraction must lie in (0.0, 1.0], got ", hold.fraction()));
      } else {
        fractions += hold.fraction();
        ns =
            static_cast<uint64_t>(std::llround(hold.fraction() * static_cast<double>(duration_ns)));
        last_given = i;
        if (ns < kNsPerMs) {
          holds.problems.emplace_back(i, absl::StrCat("hold fraction ", hold.fraction(), " of ",
                                                      duration_ms, "ms is less than 1ms"));
        }
      }
    } else if (hold.length_case() == v1::Hold::kMs) {
      if (hold.ms() == 0) {
        holds.problems.emplace_back(i, "hold ms must be at least 1, got 0");
      }
      ns = kNsPerMs * hold.ms();
      last_given = i;
    } else {
      if (scenario.step(i).has_hold()) {
        holds.problems.emplace_back(
            i,
            "hold is empty; give fraction or ms, or leave it out for an equal share of the rest");
      }
      ++shares;
    }
    used_ns += ns;
    holds.ns.push_back(ns);
  }
  if (!holds.problems.empty() || holds.ns.empty()) return holds;
  if (fractions > 1 + kRounding) {
    holds.problems.emplace_back(
        last_given, absl::StrCat("hold fractions add up to ", fractions, ", more than 1"));
    return holds;
  }
  // Each fraction is rounded to a nanosecond.
  if (used_ns > duration_ns + holds.ns.size()) {
    holds.problems.emplace_back(last_given,
                                absl::StrCat("holds add up to ", used_ns / kNsPerMs,
                                             "ms, more than duration_ms ", duration_ms));
    return holds;
  }
  if (shares == 0) return holds;
  const uint64_t rest = duration_ns > used_ns ? duration_ns - used_ns : 0;
  if (rest / shares < kNsPerMs) {
    if (last_given < 0) {
      holds.problems.emplace_back(0, absl::StrCat("duration_ms ", duration_ms, " is too short for ",
                                                  shares, " steps; each is held for at least 1ms"));
      return holds;
    }
    holds.problems.emplace_back(
        last_given, absl::StrCat("holds leave nothing of duration_ms ", duration_ms, " for the ",
                                 shares, shares == 1 ? " step" : " steps", " without a hold"));
    return holds;
  }
  for (int i = 0; i < scenario.step_size(); ++i) {
    if (scenario.step(i).hold().length_case() == v1::Hold::LENGTH_NOT_SET)
      holds.ns[i] = rest / shares;
  }
  return holds;
}

absl::StatusOr<v1::GuestPlan> MakeGuestPlan(const v1::Scenario& scenario,
                                            std::string_view scheduler_guest_path) {
  KTSTR_ASSIGN_OR_RETURN(const Topology topology, Topology::FromProto(scenario.topology()));
  if (scenario.has_scheduler() == scheduler_guest_path.empty()) {
    return absl::InvalidArgumentError(
        scenario.has_scheduler()
            ? absl::StrCat("scenario ", scenario.name(), " names scheduler ",
                           scenario.scheduler().name(), ", but no program came with it")
            : absl::StrCat("scenario ", scenario.name(), " names no scheduler, but program ",
                           base::ToAbsl(scheduler_guest_path), " came with it"));
  }
  v1::GuestPlan plan;
  plan.set_seed(SeedOf(scenario));
  if (scenario.has_scheduler()) {
    FillScheduler(scenario.scheduler(), scheduler_guest_path, plan.mutable_scheduler());
  }
  const Holds holds = ResolveHolds(scenario);
  uint64_t length_ns = 0;
  for (int i = 0; i < scenario.step_size(); ++i) {
    v1::GuestStep* step = plan.add_step();
    step->set_hold_ns(holds.ns[i]);
    step->set_start_jitter_ns(std::min(kMaxStartJitterNs, holds.ns[i] / kStartJitterPart));
    length_ns += holds.ns[i];
    for (const v1::Cgroup& cgroup : scenario.step(i).cgroup()) {
      KTSTR_ASSIGN_OR_RETURN(*step->add_cgroup(), MakeCgroup(cgroup, topology));
    }
  }
  plan.set_report_timeout_ms(ReportTimeoutMs(scenario));
  plan.set_overrun_ms(OverrunMs(scenario, holds));
  if (scenario.has_perturb()) {
    *plan.mutable_perturb() = MakeGuestPerturb(scenario, topology, length_ns);
    plan.mutable_perturb()->set_stop_timeout_ms(PerturberMs(scenario));
  }
  if (HasDelayProbe(scenario)) *plan.mutable_probe() = MakeDelayProbe(scenario);
  for (v1::GuestSeedFork& fork : MakeSeedForks(scenario)) *plan.add_seed_fork() = std::move(fork);
  return plan;
}

v1::GuestPlan MakeAttachPlan(const v1::GuestPlan& plan) {
  v1::GuestPlan attach;
  attach.set_attach_only(true);
  attach.set_seed(kAttachSeed);
  *attach.mutable_scheduler() = plan.scheduler();
  attach.set_report_timeout_ms(kMinReportTimeoutMs);
  attach.set_overrun_ms(static_cast<uint32_t>(
      std::min<uint64_t>(uint64_t{plan.scheduler().attach_timeout_ms()} + kAgentMs, UINT32_MAX)));
  // The children that disturb CPUs start before the scheduler.
  for (const v1::GuestDisturbance& disturbance : plan.perturb().disturbance()) {
    if (!NeedsChildren(disturbance.kind())) continue;
    v1::GuestPerturb* perturb = attach.mutable_perturb();
    perturb->set_cpus(plan.perturb().cpus());
    perturb->set_stop_timeout_ms(plan.perturb().stop_timeout_ms());
    perturb->add_disturbance()->set_kind(disturbance.kind());
  }
  return attach;
}

}  // namespace ktstr::scenario
