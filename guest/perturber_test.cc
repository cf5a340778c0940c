// SPDX-License-Identifier: Apache-2.0
//
// The schedule of disturbances: a function of seed and plan, within its bounds, changed by a fork
// only from there on.

#include "guest/perturber.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/fake_disturber.h"
#include "guest/fake_reporter.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using v1::Perturbation;

constexpr uint64_t kStartNs = 5 * kNsPerSecond;
constexpr uint64_t kLengthNs = 2 * kNsPerSecond;

// Runs a perturber in simulated time.
class Rig {
 public:
  explicit Rig(uint64_t seed, const std::vector<std::pair<uint64_t, uint64_t>>& forks = {}) {
    plan_.set_seed(seed);
    for (const auto& [at, fork_seed] : forks) {
      v1::GuestSeedFork* fork = plan_.add_seed_fork();
      fork->set_at_ns(at);
      fork->set_seed(fork_seed);
    }
    perturb.set_cpus(4);
    perturb.set_length_ns(kLengthNs);
  }
  Rig& With(Perturbation::Kind kind, uint64_t period, uint64_t low, uint64_t high) {
    v1::GuestDisturbance* disturbance = perturb.add_disturbance();
    disturbance->set_kind(kind);
    disturbance->set_period_ns(period);
    disturbance->set_min_length_ns(low);
    disturbance->set_max_length_ns(high);
    return *this;
  }
  Rig& AllKinds() {
    perturb.add_hotplug_cpus(1);
    perturb.add_hotplug_cpus(3);
    perturb.set_random_nice(true);
    perturb.set_change_points(3);
    workers.count = 6;
    for (int kind = Perturbation::BURST; kind <= Perturbation::HOTPLUG; ++kind)
      With(static_cast<Perturbation::Kind>(kind), 10 * kNsPerMs, kNsPerMs, 2 * kNsPerMs);
    return *this;
  }
  // Wakes only at next_ns(). Returns a line for each action, with its time.
  std::vector<std::string> Run() {
    const Random random(plan_);
    Perturber perturber(perturb, &random, &disturber, &workers, &reporter);
    EXPECT_EQ(perturber.next_ns(), Perturber::kNever);
    perturber.Begin(kStartNs);
    perturber.SetPriorities(kStartNs);
    std::vector<std::string> lines;
    Note(0, &lines);
    for (uint64_t now = perturber.next_ns(); now != Perturber::kNever; now = perturber.next_ns()) {
      if (now >= kStartNs + kLengthNs) break;
      disturber.now_ns = now;
      perturber.Poll(now);
      EXPECT_GT(perturber.next_ns(), now);
      Note(now - kStartNs, &lines);
    }
    perturber.Stop(kStartNs + kLengthNs);
    Note(kLengthNs, &lines);
    perturber.ReportTotals();
    return lines;
  }
  v1::PerturbationTotal Total(Perturbation::Kind kind) const {
    for (const v1::Observation& o : reporter.Of(v1::Observation::kPerturbationTotal)) {
      if (o.perturbation_total().kind() == kind) return o.perturbation_total();
    }
    return {};
  }

  v1::GuestPerturb perturb;
  FakeDisturber disturber;
  FakeWorkerControl workers;
  FakeReporter reporter;

 private:
  void Note(uint64_t time, std::vector<std::string>* lines) {
    for (; started_ < disturber.started.size(); ++started_) {
      const Disturbance& one = disturber.started[started_];
      lines->push_back(absl::StrCat(time, " ", Perturbation::Kind_Name(one.kind), " ", one.cpu, " ",
                                    one.length_ns));
    }
    for (; called_ < workers.calls.size(); ++called_)
      lines->push_back(absl::StrCat(time, " ", workers.calls[called_]));
  }

  v1::GuestPlan plan_;
  size_t started_ = 0;
  size_t called_ = 0;
};

uint64_t TimeOf(const std::string& line) { return std::stoull(line); }

TEST(PerturberTest, TheSeedIsTheSchedule) {
  const auto one = Rig(1).AllKinds().Run();
  EXPECT_GT(one.size(), 500u);
  EXPECT_EQ(Rig(1).AllKinds().Run(), one);
  EXPECT_NE(Rig(2).AllKinds().Run(), one);
}

TEST(PerturberTest, NothingOnIsNothingDone) {
  Rig rig(1);
  rig.workers.count = 2;
  EXPECT_THAT(rig.Run(), IsEmpty());
  EXPECT_THAT(rig.reporter.observations, IsEmpty());
}

TEST(PerturberTest, OneKindDoesNotShiftAnother) {
  auto bursts_of = [](const std::vector<std::string>& lines) {
    std::vector<std::string> bursts;
    for (const std::string& line : lines) {
      if (absl::StrContains(line, "BURST")) bursts.push_back(line);
    }
    return bursts;
  };
  const auto alone = Rig(3).With(Perturbation::BURST, 10 * kNsPerMs, kNsPerMs, 2 * kNsPerMs).Run();
  EXPECT_EQ(bursts_of(Rig(3).AllKinds().Run()), alone);
}

TEST(PerturberTest, GapsLengthsAndPlacesAreWithinTheirBounds) {
  Rig rig(4);
  rig.perturb.add_hotplug_cpus(3);
  rig.With(Perturbation::BURST, 10 * kNsPerMs, kNsPerMs, 2 * kNsPerMs)
      .With(Perturbation::HOTPLUG, 100 * kNsPerMs, 5 * kNsPerMs, 30 * kNsPerMs);
  const auto lines = rig.Run();
  uint64_t last = 0;
  std::vector<uint32_t> hits(4);
  for (size_t i = 0; i < rig.disturber.started.size(); ++i) {
    const Disturbance& one = rig.disturber.started[i];
    if (one.kind == Perturbation::HOTPLUG) {
      EXPECT_EQ(one.cpu, 3u);
      continue;
    }
    ASSERT_LT(one.cpu, 4u);
    ++hits[one.cpu];
    EXPECT_GE(one.length_ns, kNsPerMs);
    EXPECT_LE(one.length_ns, 2 * kNsPerMs);
    const uint64_t at = TimeOf(lines[i]);
    EXPECT_GE(at - last, 5 * kNsPerMs);
    EXPECT_LE(at - last, 15 * kNsPerMs);
    EXPECT_LE(at + one.length_ns, kLengthNs);
    last = at;
  }
  for (const uint32_t hit : hits) EXPECT_GT(hit, 20u);
  EXPECT_EQ(rig.Total(Perturbation::BURST).done() + rig.Total(Perturbation::HOTPLUG).done(),
            rig.disturber.started.size());
}

TEST(PerturberTest, AForkChangesOnlyWhatComesAfterIt) {
  constexpr uint64_t kFork = kNsPerSecond;
  auto until = [](std::vector<std::string> lines) {
    lines.erase(std::remove_if(lines.begin(), lines.end(),
                               [](const std::string& line) { return TimeOf(line) >= kFork; }),
                lines.end());
    return lines;
  };
  const auto plain = Rig(1).AllKinds().Run();
  const auto forked = Rig(1, {{kFork, 9}}).AllKinds().Run();
  EXPECT_EQ(until(forked), until(plain));
  EXPECT_GT(until(plain).size(), 200u);
  EXPECT_NE(forked, plain);
}

TEST(PerturberTest, ALateWakeUpMakesUpForWhatWasDue) {
  Rig rig(1);
  const Random random(1);
  rig.With(Perturbation::BURST, 10 * kNsPerMs, 1, 2);
  Perturber perturber(rig.perturb, &random, &rig.disturber, &rig.workers, &rig.reporter);
  perturber.Begin(kStartNs);
  perturber.Poll(kStartNs + kNsPerSecond);
  EXPECT_GT(rig.disturber.started.size(), 60u);
  EXPECT_GT(perturber.next_ns(), kStartNs + kNsPerSecond);
}

TEST(PerturberTest, FailedAndMissedAreCountedAndGoOn) {
  Rig failing(1);
  failing.disturber.status = absl::UnavailableError("busy as a bee");
  failing.With(Perturbation::HOTPLUG, 100 * kNsPerMs, 1, 2).perturb.add_hotplug_cpus(1);
  failing.Run();
  EXPECT_GT(failing.Total(Perturbation::HOTPLUG).failed(), 10u);
  EXPECT_EQ(failing.Total(Perturbation::HOTPLUG).done(), 0u);
  EXPECT_EQ(failing.Total(Perturbation::HOTPLUG).last_error(), "busy as a bee");
  EXPECT_THAT(failing.reporter.Of(v1::Observation::kPerturbation), IsEmpty());

  Rig busy(1);
  busy.disturber.busy = true;
  busy.With(Perturbation::BURST, 100 * kNsPerMs, 1, 2).Run();
  EXPECT_GT(busy.Total(Perturbation::BURST).missed(), 10u);
  EXPECT_EQ(busy.Total(Perturbation::BURST).failed(), 0u);
}

TEST(PerturberTest, AMovedWorkerComesHome) {
  Rig rig(1);
  rig.workers.count = 3;
  rig.With(Perturbation::MOVE, 100 * kNsPerMs, 10 * kNsPerMs, 20 * kNsPerMs);
  const auto lines = rig.Run();
  ASSERT_GE(lines.size(), 20u);
  ASSERT_EQ(lines.size() % 2, 0u);
  for (size_t i = 0; i < lines.size(); i += 2) {
    EXPECT_THAT(lines[i], ::testing::HasSubstr(" away "));
    EXPECT_EQ(rig.workers.calls[i + 1], "home " + rig.workers.calls[i].substr(5));
    const uint64_t length = TimeOf(lines[i + 1]) - TimeOf(lines[i]);
    EXPECT_GE(length, 10 * kNsPerMs);
    EXPECT_LE(length, 20 * kNsPerMs);
  }
  EXPECT_EQ(rig.Total(Perturbation::MOVE).done(), lines.size() / 2);
}

TEST(PerturberTest, StopBringsTheMovedWorkerHome) {
  Rig rig(1);
  rig.workers.count = 1;
  const Random random(1);
  rig.With(Perturbation::MOVE, 100 * kNsPerMs, 90 * kNsPerMs, 99 * kNsPerMs);
  Perturber perturber(rig.perturb, &random, &rig.disturber, &rig.workers, &rig.reporter);
  perturber.Begin(kStartNs);
  perturber.Poll(perturber.next_ns());
  EXPECT_THAT(rig.workers.calls, ElementsAre("away 0"));
  perturber.Stop(kStartNs + kNsPerSecond);
  EXPECT_THAT(rig.workers.calls, ElementsAre("away 0", "home 0"));
  EXPECT_EQ(perturber.next_ns(), Perturber::kNever);
}

TEST(PerturberTest, NobodyToMoveIsMissed) {
  Rig rig(1);
  rig.With(Perturbation::MOVE, 100 * kNsPerMs, 1, 2).Run();
  EXPECT_GT(rig.Total(Perturbation::MOVE).missed(), 10u);
  Rig dead(1);
  dead.workers.count = 2;
  dead.workers.alive = false;
  EXPECT_THAT(dead.With(Perturbation::MOVE, 100 * kNsPerMs, 1, 2).Run(), IsEmpty());
}

TEST(PerturberTest, PrioritiesAtTheStartAndOneChangeInEachPart) {
  Rig rig(1);
  rig.workers.count = 20;
  rig.workers.nice = 3;
  rig.perturb.set_random_nice(true);
  rig.perturb.set_change_points(4);
  const auto lines = rig.Run();
  ASSERT_THAT(lines, SizeIs(24));
  for (uint32_t i = 0; i < 20; ++i) {
    int worker = -1, nice = 0;
    ASSERT_EQ(sscanf(lines[i].c_str(), "0 nice %d %d", &worker, &nice), 2);
    EXPECT_EQ(worker, static_cast<int>(i));
    EXPECT_GE(nice, -5);
    EXPECT_LE(nice, 3);
  }
  for (uint32_t i = 0; i < 4; ++i) {
    const uint64_t part = kLengthNs / 4;
    EXPECT_EQ(TimeOf(lines[20 + i]) / part, i);
    EXPECT_THAT(lines[20 + i], ::testing::EndsWith(absl::StrCat(" ", 11 - i)));
  }
}

TEST(PerturberTest, PrioritiesStayWithinWhatTheKernelKnows) {
  Rig rig(1);
  rig.workers.count = 2;
  rig.workers.nice = 19;
  rig.perturb.set_random_nice(true);
  rig.perturb.set_change_points(1);
  EXPECT_THAT(rig.Run().back(), ::testing::EndsWith(" 19"));
}

TEST(PerturberTest, ReportsCarryTheirBeginning) {
  Rig rig(1);
  rig.With(Perturbation::BURST, 500 * kNsPerMs, kNsPerMs, kNsPerMs);
  const auto lines = rig.Run();
  const auto reports = rig.reporter.Of(v1::Observation::kPerturbation);
  ASSERT_EQ(reports.size(), lines.size());
  for (size_t i = 0; i < reports.size(); ++i) {
    EXPECT_EQ(reports[i].guest_time_ns(), kStartNs + TimeOf(lines[i]));
    EXPECT_EQ(reports[i].perturbation().begin_ns(), TimeOf(lines[i]));
    EXPECT_EQ(reports[i].perturbation().length_ns(), kNsPerMs);
  }
}

}  // namespace
}  // namespace ktstr::guest
