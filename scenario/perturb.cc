// SPDX-License-Identifier: Apache-2.0

#include "scenario/perturb.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "scenario/cpuset.h"
#include "scenario/plan.h"

namespace ktstr::scenario {
namespace {

using v1::Perturbation;

constexpr uint64_t kNsPerUs = 1'000;
constexpr uint64_t kNsPerMs = 1'000'000;
// The probe takes tenths of a second to read the kernel's types and attach.
constexpr uint32_t kProbeStartMs = 60'000;
constexpr uint32_t kProbeStopMs = 5'000;

struct Level {
  uint64_t period_ns;
  uint64_t max_length_ns;
};

struct Kind {
  Perturbation::Kind kind;
  const char* field;
  uint32_t from_intensity;
  uint64_t min_length_ns;
  Level levels[kMaxIntensity];  // By intensity, from 1.
};

// At any intensity, bursts and timers together take less than half of one CPU's time: a tenth of
// each on four CPUs.
constexpr Kind kKinds[] = {
    {Perturbation::BURST,
     "bursts",
     1,
     50 * kNsPerUs,
     {{40 * kNsPerMs, 500 * kNsPerUs}, {15 * kNsPerMs, 2 * kNsPerMs}, {8 * kNsPerMs, kMaxBurstNs}}},
    {Perturbation::TIMERS,
     "timers",
     1,
     200 * kNsPerUs,
     {{50 * kNsPerMs, kNsPerMs}, {20 * kNsPerMs, 2 * kNsPerMs}, {12 * kNsPerMs, 3 * kNsPerMs}}},
    {Perturbation::IPIS,
     "ipis",
     2,
     50 * kNsPerUs,
     {{60 * kNsPerMs, 200 * kNsPerUs},
      {30 * kNsPerMs, 400 * kNsPerUs},
      {15 * kNsPerMs, 800 * kNsPerUs}}},
    {Perturbation::MOVE,
     "moves",
     2,
     kNsPerMs,
     {{120 * kNsPerMs, 5 * kNsPerMs},
      {60 * kNsPerMs, 5 * kNsPerMs},
      {30 * kNsPerMs, 5 * kNsPerMs}}},
    {Perturbation::HOTPLUG,
     "hotplug",
     3,
     5 * kNsPerMs,
     {{2000 * kNsPerMs, 30 * kNsPerMs},
      {1000 * kNsPerMs, 30 * kNsPerMs},
      {500 * kNsPerMs, 30 * kNsPerMs}}},
};

// 1: on, 0: off, -1: depends on the intensity.
int Switch(const v1::Perturb& perturb, Perturbation::Kind kind) {
  switch (kind) {
    case Perturbation::BURST:
      return perturb.has_bursts() ? perturb.bursts() : -1;
    case Perturbation::TIMERS:
      return perturb.has_timers() ? perturb.timers() : -1;
    case Perturbation::IPIS:
      return perturb.has_ipis() ? perturb.ipis() : -1;
    case Perturbation::MOVE:
      return perturb.has_moves() ? perturb.moves() : -1;
    case Perturbation::HOTPLUG:
      return perturb.has_hotplug() ? perturb.hotplug() : -1;
    default:
      return 0;
  }
}

uint32_t IntensityOf(const v1::Perturb& perturb) {
  return perturb.has_intensity() ? perturb.intensity() : kDefaultIntensity;
}

// All but CPU 0 and CPUs that are alone in a cpuset: without its last CPU, the kernel would lift
// the cpuset's restriction.
std::vector<uint32_t> HotplugCpus(const v1::Scenario& scenario, const Topology& topology) {
  std::vector<int> cpus = topology.AllCpus();
  cpus.erase(std::remove(cpus.begin(), cpus.end(), 0), cpus.end());
  for (const auto& [cgroup, allowed] : AllowedCpus(scenario, topology)) {
    if (allowed.size() == 1)
      cpus.erase(std::remove(cpus.begin(), cpus.end(), allowed[0]), cpus.end());
  }
  return {cpus.begin(), cpus.end()};
}

void AddPerturbProblems(const v1::Scenario& scenario, const Topology* topology,
                        FieldProblems* problems) {
  const v1::Perturb& perturb = scenario.perturb();
  const uint32_t intensity = IntensityOf(perturb);
  if (intensity > kMaxIntensity) {
    problems->emplace_back(
        "perturb.intensity",
        absl::StrCat("intensity ", intensity, " is out of range; allowed: 0 to ", kMaxIntensity));
  }
  for (const Kind& kind : kKinds) {
    if (Switch(perturb, kind.kind) != 1) continue;
    const std::string field = absl::StrCat("perturb.", kind.field);
    if (intensity == 0) {
      problems->emplace_back(field,
                             absl::StrCat(kind.field,
                                          " is on, but intensity 0 turns all disturbances off; "
                                          "give intensity 1 to 3"));
    } else if (kind.kind == Perturbation::HOTPLUG && topology != nullptr &&
               HotplugCpus(scenario, *topology).empty()) {
      problems->emplace_back(
          field, absl::StrCat("hotplug needs a CPU besides CPU 0 that is not the only one of a "
                              "cpuset; there is none (topology ",
                              topology->Label(), ")"));
    }
  }
  if (perturb.pct().has_change_points() && perturb.pct().change_points() > kMaxChangePoints) {
    problems->emplace_back("perturb.pct.change_points",
                           absl::StrCat("change_points ", perturb.pct().change_points(),
                                        " is out of range; allowed: 0 to ", kMaxChangePoints));
  }
}

bool IsCallbackName(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
  });
}

void AddDelayProblems(const v1::Scenario& scenario, FieldProblems* problems) {
  const auto& points = scenario.perturb().delay_point();
  for (int i = 0; i < points.size(); ++i) {
    const std::string field = absl::StrCat("perturb.delay_point[", i, "]");
    const v1::Perturb::DelayPoint& point = points[i];
    if (i == kMaxDelayPoints) {
      problems->emplace_back(field, AboveLimit(LimitOf("Perturb.delay_point"), points.size()));
      return;
    }
    if (const std::string problem =
            AboveLimit(LimitOf("Perturb.DelayPoint.callback"), point.callback().size());
        !problem.empty()) {
      problems->emplace_back(absl::StrCat(field, ".callback"), absl::StrCat("callback: ", problem));
    } else if (!IsCallbackName(point.callback())) {
      problems->emplace_back(
          absl::StrCat(field, ".callback"),
          absl::StrCat("callback '", point.callback(),
                       "' is not the name of a callback; give a name of struct sched_ext_ops, "
                       "such as enqueue, dispatch, update_idle"));
    }
    if (point.has_max_us() && (point.max_us() < 1 || point.max_us() > kMaxDelayUs)) {
      problems->emplace_back(
          absl::StrCat(field, ".max_us"),
          absl::StrCat("max_us ", point.max_us(), " is out of range; allowed: 1 to ", kMaxDelayUs));
    }
    if (point.has_one_in() && (point.one_in() < 1 || point.one_in() > kMaxDelayOneIn)) {
      problems->emplace_back(absl::StrCat(field, ".one_in"),
                             absl::StrCat("one_in ", point.one_in(),
                                          " is out of range; allowed: 1 to ", kMaxDelayOneIn));
    }
  }
}

void AddForkProblems(const v1::Scenario& scenario, FieldProblems* problems) {
  for (int i = 0; i < scenario.seed_fork_size(); ++i) {
    const std::string field = absl::StrCat("seed_fork[", i, "]");
    const uint32_t at_ms = scenario.seed_fork(i).at_ms();
    if (i == kMaxSeedForks) {
      problems->emplace_back(field,
                             AboveLimit(LimitOf("Scenario.seed_fork"), scenario.seed_fork_size()));
      return;
    }
    if (at_ms < 1 || at_ms > kMaxDurationMs) {
      problems->emplace_back(
          absl::StrCat(field, ".at_ms"),
          absl::StrCat("at_ms ", at_ms, " is out of range; allowed: 1 to ", kMaxDurationMs));
    } else if (i > 0 && at_ms <= scenario.seed_fork(i - 1).at_ms()) {
      problems->emplace_back(absl::StrCat(field, ".at_ms"),
                             absl::StrCat("at_ms ", at_ms, " does not lie after the fork before, ",
                                          scenario.seed_fork(i - 1).at_ms()));
    }
  }
}

}  // namespace

FieldProblems PerturbProblems(const v1::Scenario& scenario, const Topology* topology) {
  FieldProblems problems;
  if (scenario.has_perturb()) AddPerturbProblems(scenario, topology, &problems);
  AddDelayProblems(scenario, &problems);
  AddForkProblems(scenario, &problems);
  return problems;
}

v1::GuestPerturb MakeGuestPerturb(const v1::Scenario& scenario, const Topology& topology,
                                  uint64_t length_ns) {
  const v1::Perturb& perturb = scenario.perturb();
  const uint32_t intensity = IntensityOf(perturb);
  v1::GuestPerturb out;
  out.set_cpus(static_cast<uint32_t>(topology.num_cpus()));
  out.set_length_ns(length_ns);
  for (const Kind& kind : kKinds) {
    const int on = Switch(perturb, kind.kind);
    if (intensity == 0 || on == 0 || (on < 0 && intensity < kind.from_intensity)) continue;
    if (kind.kind == Perturbation::HOTPLUG) {
      const std::vector<uint32_t> cpus = HotplugCpus(scenario, topology);
      if (cpus.empty()) continue;
      *out.mutable_hotplug_cpus() = {cpus.begin(), cpus.end()};
    }
    const Level& level = kind.levels[intensity - 1];
    v1::GuestDisturbance* disturbance = out.add_disturbance();
    disturbance->set_kind(kind.kind);
    disturbance->set_period_ns(std::max(level.period_ns, length_ns / kMaxDisturbancesPerKind));
    disturbance->set_min_length_ns(kind.min_length_ns);
    disturbance->set_max_length_ns(level.max_length_ns);
  }
  if (perturb.has_pct()) {
    out.set_random_nice(true);
    out.set_change_points(perturb.pct().has_change_points() ? perturb.pct().change_points()
                                                            : kDefaultChangePoints);
  }
  return out;
}

bool HasDelayProbe(const v1::Scenario& scenario) {
  return scenario.has_scheduler() && !scenario.perturb().delay_point().empty();
}

v1::GuestProbe MakeDelayProbe(const v1::Scenario& scenario) {
  v1::GuestProbe probe;
  probe.set_path(kDelayGuestPath);
  probe.set_start_timeout_ms(kProbeStartMs);
  probe.set_stop_timeout_ms(kProbeStopMs);
  for (const v1::Perturb::DelayPoint& point : scenario.perturb().delay_point()) {
    const uint32_t max_us = point.has_max_us() ? point.max_us() : kDefaultDelayUs;
    const uint32_t one_in = point.has_one_in() ? point.one_in() : 1;
    probe.add_args("--point");
    probe.add_args(absl::StrCat(point.callback(), point.at_end() ? ":end" : "", ",",
                                max_us * kNsPerUs, ",", one_in));
  }
  // The agent starts it when the scheduler is enabled.
  probe.add_args("--wait-ms");
  probe.add_args("0");
  probe.add_args("--seed");
  probe.add_args(absl::StrCat(SeedOf(scenario)));
  return probe;
}

std::vector<v1::GuestSeedFork> MakeSeedForks(const v1::Scenario& scenario) {
  std::vector<v1::GuestSeedFork> forks(kMaxSeedForks);
  for (int i = 0; i < kMaxSeedForks; ++i) {
    const bool given = i < scenario.seed_fork_size();
    const v1::SeedFork& fork = given ? scenario.seed_fork(i) : v1::SeedFork::default_instance();
    forks[i].set_at_ns(given ? fork.at_ms() * kNsPerMs : std::numeric_limits<uint64_t>::max());
    forks[i].set_seed(fork.seed() != 0 ? fork.seed() : 1);
  }
  return forks;
}

}  // namespace ktstr::scenario
