// SPDX-License-Identifier: Apache-2.0
#include "guest/worker.h"

#include <poll.h>
#include <signal.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/fake_cgroups.h"
#include "guest/fake_reporter.h"
#include "guest/sched_ext.h"
#include "guest/time.h"
#include "guest/worker_pool.h"

namespace ktstr::guest {
namespace {

using ::testing::HasSubstr;

TEST(LookTrackerTest, FindsTheLongestPauseWithItsPlace) {
  WorkerSlot slot{};
  slot.start_ns = 1000;
  LookTracker tracker(&slot);
  tracker.Look(1100, 2, 0);
  tracker.Look(1900, 3, 0);
  tracker.Look(2000, 3, 0);
  EXPECT_EQ(slot.max_gap_ns, 800u);
  EXPECT_EQ(slot.max_gap_cpu, 3u);
  EXPECT_EQ(slot.max_gap_end_ns, 1900u);
  EXPECT_EQ(slot.migrations, 1u);
  EXPECT_EQ(slot.cpus_used[0], 0b1100u);
}

TEST(LookTrackerTest, TimeBeforeTheFirstLookCounts) {
  WorkerSlot slot{};
  slot.start_ns = 1000;
  LookTracker(&slot).Look(6000, 0, 0);
  EXPECT_EQ(slot.max_gap_ns, 5000u);
}

TEST(LookTrackerTest, OwnSleepIsTakenOut) {
  WorkerSlot slot{};
  LookTracker tracker(&slot);
  tracker.Look(1050, 0, 1000);
  EXPECT_EQ(slot.max_gap_ns, 50u);
}

TEST(LookTrackerTest, TimeAfterTheStopIsNotTheSchedulers) {
  WorkerSlot slot{};
  LookTracker tracker(&slot);
  tracker.Look(100, 0, 0);
  slot.stop_ns = 300;
  tracker.Look(9000, 0, 0);
  EXPECT_EQ(slot.max_gap_ns, 200u);
  EXPECT_EQ(slot.max_gap_end_ns, 300u);
}

TEST(LookTrackerTest, CpusBeyondTheLimitAreLeftOut) {
  WorkerSlot slot{};
  LookTracker(&slot).Look(1, kMaxCpus, 0);
  for (uint64_t word : slot.cpus_used) EXPECT_EQ(word, 0u);
}

// As kernel/sched/debug.c prints it.
TEST(ExtClassTest, IsReadFromProcSched) {
  const std::string head = "kt-spin_wait (71, #threads: 1)\n-------\nse.exec_start : 12.5\n";
  EXPECT_EQ(
      InExtClass(head + "ext.enabled                                  :                    1\n"
                        "nr_switches : 3\n"),
      true);
  EXPECT_EQ(
      InExtClass(head + "ext.enabled                                  :                    0\n"),
      false);
  EXPECT_EQ(InExtClass(head), std::nullopt);
  EXPECT_EQ(InExtClass(""), std::nullopt);
  EXPECT_EQ(InExtClass(head + "ext.enabled :"), std::nullopt);
}

class WorkerPoolTest : public testing::Test {
 protected:
  void SetUp() override {
    auto fake = FakeCgroups::Make({"g"});
    ASSERT_TRUE(fake.ok());
    fake_ = std::make_unique<FakeCgroups>(std::move(*fake));
    auto tree = CgroupTree::Make(fake_->mount());
    ASSERT_TRUE(tree.ok());
    tree_ = std::make_unique<CgroupTree>(std::move(*tree));
    auto reaper = Reaper::Make();
    ASSERT_TRUE(reaper.ok());
    reaper_ = std::make_unique<Reaper>(std::move(*reaper));
  }
  // Waits for children to end, at most `ms`.
  bool WaitAll(WorkerPool* pool, uint64_t ms) {
    const uint64_t end = MonotonicNs() + ms * kNsPerMs;
    while (!pool->Poll()) {
      if (MonotonicNs() >= end) return false;
      pollfd fd = {.fd = reaper_->fd(), .events = POLLIN};
      poll(&fd, 1, 20);
    }
    return true;
  }
  void Pass(uint64_t ns) {
    const timespec length = {.tv_sec = 0, .tv_nsec = static_cast<long>(ns)};
    nanosleep(&length, nullptr);
  }
  static v1::GuestWork Work(const std::string& type, uint32_t workers) {
    v1::GuestWork work;
    work.set_type(type);
    work.set_workers(workers);
    work.set_burst_ns(kNsPerMs);
    work.set_sleep_ns(kNsPerMs);
    return work;
  }

  std::unique_ptr<FakeCgroups> fake_;
  std::unique_ptr<CgroupTree> tree_;
  std::unique_ptr<Reaper> reaper_;
  const Random random_{1};
  FakeReporter reporter_;
};

TEST_F(WorkerPoolTest, WorkersReportWhatTheyDid) {
  auto pool = WorkerPool::Make(3, &random_, reaper_.get(), &reporter_);
  ASSERT_TRUE(pool.ok());
  ASSERT_TRUE(pool->Add(*tree_, "g", Work("spin_wait", 2)).ok());
  ASSERT_TRUE(pool->Add(*tree_, "g", Work("bursty", 1)).ok());
  EXPECT_NE(fake_->Read("g/cgroup.procs"), "");
  pool->Release(kNsPerMs, 0);
  Pass(400 * kNsPerMs);  // Enough for a burst and a sleep also on a host that is busy.
  pool->Stop();
  ASSERT_TRUE(WaitAll(&*pool, 20'000));
  pool->ReportAll(0);
  auto reports = reporter_.Of(v1::Observation::kWorkerReport);
  ASSERT_EQ(reports.size(), 3u);
  for (uint32_t i = 0; i < 3; ++i) {
    const v1::WorkerReport& report = reports[i].worker_report();
    EXPECT_EQ(report.index(), i);
    EXPECT_EQ(report.cgroup(), "g");
    EXPECT_EQ(report.work_type(), i < 2 ? "spin_wait" : "bursty");
    EXPECT_EQ(report.work_units(), report.iterations() * kSpinsPerLook);
    EXPECT_GT(report.wall_time_ns(), 0u);
    EXPECT_LE(report.off_cpu_ns(), report.wall_time_ns());
    EXPECT_GT(report.max_gap_ns(), 0u);
    EXPECT_FALSE(report.cpus_used().empty());
    EXPECT_EQ(report.sleep_ns() > 0, i == 2);
    // The host of this test may run a sched_ext scheduler itself.
    auto host = base::ReadFile("/proc/self/sched", 8192);
    EXPECT_EQ(report.has_ext_class(), host.ok() && InExtClass(*host).has_value());
  }
}

TEST_F(WorkerPoolTest, WaitingForItsStartIsNoPauseOfTheWorker) {
  auto pool = WorkerPool::Make(4, &random_, reaper_.get(), &reporter_);
  ASSERT_TRUE(pool.ok());
  ASSERT_TRUE(pool->Add(*tree_, "g", Work("spin_wait", 4)).ok());
  const uint64_t before = MonotonicNs();
  pool->Release(3600 * kNsPerSecond, 0);  // None of the four draws comes within this test.
  pool->Stop();
  ASSERT_TRUE(WaitAll(&*pool, 20'000)) << "a worker slept through its stop signal";
  const uint64_t passed = MonotonicNs() - before;
  pool->ReportAll(0);
  auto reports = reporter_.Of(v1::Observation::kWorkerReport);
  ASSERT_EQ(reports.size(), 4u);
  for (const v1::Observation& report : reports) {
    EXPECT_EQ(report.worker_report().wall_time_ns(), 0u);
    EXPECT_EQ(report.worker_report().off_cpu_ns(), 0u);
    EXPECT_LE(report.worker_report().max_gap_ns(), passed);
  }
}

TEST_F(WorkerPoolTest, NothingRunsBeforeRelease) {
  auto pool = WorkerPool::Make(1, &random_, reaper_.get(), &reporter_);
  ASSERT_TRUE(pool.ok());
  ASSERT_TRUE(pool->Add(*tree_, "g", Work("spin_wait", 1)).ok());
  Pass(20 * kNsPerMs);
  EXPECT_FALSE(pool->Poll());
  // Stopped before its release: it ends with no or little work, but it reports.
  pool->Stop();
  ASSERT_TRUE(WaitAll(&*pool, 20'000));
  pool->ReportAll(0);
  EXPECT_EQ(reporter_.Of(v1::Observation::kWorkerReport).size(), 1u);
}

TEST_F(WorkerPoolTest, StopAtOnceIsNotLost) {
  auto pool = WorkerPool::Make(16, &random_, reaper_.get(), &reporter_);
  ASSERT_TRUE(pool.ok());
  v1::GuestWork work = Work("bursty", 16);
  work.set_sleep_ns(3600 * kNsPerSecond);
  work.set_burst_ns(1);
  ASSERT_TRUE(pool->Add(*tree_, "g", work).ok());
  pool->Release(kNsPerMs, 0);
  pool->Stop();
  EXPECT_TRUE(WaitAll(&*pool, 20'000)) << "a worker slept through its stop signal";
  pool->ReportAll(0);
  EXPECT_EQ(reporter_.Of(v1::Observation::kWorkerReport).size(), 16u);
}

TEST_F(WorkerPoolTest, DeadAndSilentWorkersAreLost) {
  auto pool = WorkerPool::Make(2, &random_, reaper_.get(), &reporter_);
  ASSERT_TRUE(pool.ok());
  ASSERT_TRUE(pool->Add(*tree_, "g", Work("spin_wait", 1)).ok());
  const pid_t first = std::stoi(fake_->Read("g/cgroup.procs"));
  ASSERT_TRUE(fake_->Clear("g/cgroup.procs").ok());
  ASSERT_TRUE(pool->Add(*tree_, "g", Work("spin_wait", 1)).ok());
  const pid_t second = std::stoi(fake_->Read("g/cgroup.procs"));
  ASSERT_NE(first, second);
  pool->Release(kNsPerMs, 0);
  kill(first, SIGKILL);
  kill(second, SIGSTOP);
  pool->Stop();
  EXPECT_FALSE(WaitAll(&*pool, 100));
  pool->ReportAll(0);
  auto lost = reporter_.Of(v1::Observation::kWorkerLost);
  ASSERT_EQ(lost.size(), 2u);
  EXPECT_EQ(lost[0].worker_lost().signal(), static_cast<uint32_t>(SIGKILL));
  EXPECT_FALSE(lost[0].worker_lost().silent());
  EXPECT_TRUE(lost[1].worker_lost().silent());
  pool->Kill();
  EXPECT_TRUE(WaitAll(&*pool, 20'000));
}

TEST_F(WorkerPoolTest, UnknownTypeAndMissingCgroupAreErrors) {
  auto pool = WorkerPool::Make(2, &random_, reaper_.get(), &reporter_);
  ASSERT_TRUE(pool.ok());
  EXPECT_THAT(std::string(pool->Add(*tree_, "g", Work("dance", 1)).message()),
              HasSubstr("'dance'"));
  EXPECT_THAT(std::string(pool->Add(*tree_, "typo", Work("spin_wait", 1)).message()),
              HasSubstr("typo/cgroup.procs"));
  EXPECT_FALSE(pool->Add(*tree_, "g", Work("spin_wait", 9)).ok());
  pool->Kill();
  EXPECT_TRUE(WaitAll(&*pool, 20'000));
}

}  // namespace
}  // namespace ktstr::guest
