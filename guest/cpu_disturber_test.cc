// SPDX-License-Identifier: Apache-2.0
//
// The perturber's real children, on the host's CPU 0 as ordinary tasks. CPU numbers that the host
// lacks and a directory in place of /sys stand for what a kernel refuses.

#include "guest/cpu_disturber.h"

#include <poll.h>
#include <sched.h>

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

using ::testing::HasSubstr;
using v1::Perturbation;

constexpr uint64_t kDeadlineNs = 20 * kNsPerSecond;

class CpuDisturberTest : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = base::TempDir::Make("cpus");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<base::TempDir>(std::move(*dir));
    auto reaper = Reaper::Make();
    ASSERT_TRUE(reaper.ok());
    reaper_ = std::make_unique<Reaper>(std::move(*reaper));
  }
  void Make(const std::vector<Perturbation::Kind>& kinds, uint32_t cpus = 1) {
    v1::GuestPerturb plan;
    plan.set_cpus(cpus);
    for (Perturbation::Kind kind : kinds) plan.add_disturbance()->set_kind(kind);
    auto made = CpuDisturber::Make(plan, {.priority = 0, .cpus = dir_->path()}, reaper_.get());
    ASSERT_TRUE(made.ok()) << made.status();
    disturber_ = std::move(*made);
  }
  template <typename Done>
  bool Wait(Done done) {
    for (const uint64_t end = MonotonicNs() + kDeadlineNs; !done();) {
      if (MonotonicNs() >= end) return false;
      pollfd fd = {.fd = reaper_->fd(), .events = POLLIN};
      poll(&fd, 1, 1);
    }
    return true;
  }
  EndedDisturbance RunOne(const Disturbance& disturbance) {
    EXPECT_TRUE(disturber_->Start(disturbance));
    EXPECT_TRUE(Wait([this] { return disturber_->Idle(); }));
    auto ended = disturber_->TakeEnded();
    EXPECT_EQ(ended.size(), 1u);
    return ended.empty() ? EndedDisturbance() : ended[0];
  }
  std::string OnlineFile() const { return base::JoinPath(dir_->path(), "cpu1/online"); }
  void MakeOnlineFile() {
    ASSERT_TRUE(base::MakeDirs(base::JoinPath(dir_->path(), "cpu1")).ok());
    ASSERT_TRUE(base::WriteFileAtomic(OnlineFile(), "").ok());
  }

  std::unique_ptr<base::TempDir> dir_;
  std::unique_ptr<Reaper> reaper_;
  std::unique_ptr<CpuDisturber> disturber_;
};

TEST_F(CpuDisturberTest, EachKindLastsAtLeastItsLength) {
  Make({Perturbation::BURST, Perturbation::TIMERS, Perturbation::IPIS});
  for (auto kind : {Perturbation::BURST, Perturbation::TIMERS, Perturbation::IPIS}) {
    const uint64_t before = MonotonicNs();
    const EndedDisturbance end = RunOne({.kind = kind, .cpu = 0, .length_ns = kNsPerMs});
    EXPECT_TRUE(end.status.ok()) << end.status;
    EXPECT_EQ(end.asked.kind, kind);
    EXPECT_GE(end.begin_ns, before);
    EXPECT_GE(end.length_ns, kind == Perturbation::IPIS ? kNsPerMs / 2 : kNsPerMs);
    EXPECT_TRUE(disturber_->TakeEnded().empty());
  }
}

TEST_F(CpuDisturberTest, OneAtATimeOnACpu) {
  Make({Perturbation::BURST});
  const Disturbance burst = {.kind = Perturbation::BURST, .cpu = 0, .length_ns = kNsPerMs};
  EXPECT_TRUE(disturber_->Start(burst));
  EXPECT_FALSE(disturber_->Start(burst));
  ASSERT_TRUE(Wait([this] { return disturber_->Idle(); }));
  EXPECT_FALSE(disturber_->Start(burst)) << "its end was not taken yet";
  EXPECT_EQ(disturber_->TakeEnded().size(), 1u);
  EXPECT_TRUE(disturber_->Start(burst));
}

TEST_F(CpuDisturberTest, WhatWasNotPlannedDoesNotStart) {
  Make({Perturbation::BURST});
  EXPECT_FALSE(disturber_->Start({.kind = Perturbation::HOTPLUG, .cpu = 0}));
  EXPECT_FALSE(disturber_->Start({.kind = Perturbation::BURST, .cpu = 1}));
  EXPECT_FALSE(disturber_->Start({.kind = Perturbation::BURST, .cpu = ~0u}));
}

TEST_F(CpuDisturberTest, HotplugTakesTheCpuAwayAndBringsItBack) {
  MakeOnlineFile();
  Make({Perturbation::HOTPLUG}, 2);
  const EndedDisturbance end =
      RunOne({.kind = Perturbation::HOTPLUG, .cpu = 1, .length_ns = kNsPerMs});
  EXPECT_TRUE(end.status.ok()) << end.status;
  EXPECT_GE(end.length_ns, kNsPerMs);
  EXPECT_EQ(*base::ReadFile(OnlineFile()), "1");
}

TEST_F(CpuDisturberTest, RefusedHotplugSaysWhy) {
  Make({Perturbation::HOTPLUG}, 2);
  const EndedDisturbance end = RunOne({.kind = Perturbation::HOTPLUG, .cpu = 1, .length_ns = 1});
  EXPECT_THAT(std::string(end.status.message()), HasSubstr("HOTPLUG on CPU 1"));
  EXPECT_THAT(std::string(end.status.message()), HasSubstr("No such file"));
}

TEST_F(CpuDisturberTest, NothingHappensOnACpuThatIsAway) {
  MakeOnlineFile();
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
  if (!CPU_ISSET(0, &all) || !CPU_ISSET(1, &all)) GTEST_SKIP() << "needs CPUs 0 and 1";
  Make({Perturbation::HOTPLUG, Perturbation::BURST}, 2);
  ASSERT_TRUE(
      disturber_->Start({.kind = Perturbation::HOTPLUG, .cpu = 1, .length_ns = kDeadlineNs}));
  EXPECT_FALSE(disturber_->Start({.kind = Perturbation::BURST, .cpu = 1, .length_ns = 1}));
  EXPECT_TRUE(disturber_->Start({.kind = Perturbation::BURST, .cpu = 0, .length_ns = 1}));
  // The agent's last resort: the child is killed, the CPU comes back.
  EXPECT_TRUE(Wait([this] { return *base::ReadFile(OnlineFile()) == "0"; }));
  disturber_->End();
  disturber_->Kill();
  EXPECT_TRUE(Wait([this] { return disturber_->Ended(); }));
  EXPECT_TRUE(Wait([this] { return *base::ReadFile(OnlineFile()) == "1"; }));
}

TEST_F(CpuDisturberTest, ChildrenEndWhenTold) {
  Make({Perturbation::BURST});
  EXPECT_FALSE(disturber_->Ended());
  disturber_->End();
  EXPECT_TRUE(Wait([this] { return disturber_->Ended(); }));
}

}  // namespace
}  // namespace ktstr::guest
