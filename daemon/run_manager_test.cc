// SPDX-License-Identifier: Apache-2.0
#include "daemon/run_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>

#include <atomic>
#include <thread>

#include "base/file.h"
#include "base/testing/faults.h"
#include "daemon/testing/fake_executor.h"

namespace ktstr::daemon {
namespace {

const Caller kAnna = {.uid = 1001, .user = "anna"};
const Caller kBert = {.uid = 1002, .user = "bert"};
const Caller kRoot = {.uid = 0, .user = "root", .admin = true};

v1::RunSpec Spec(bool cancel_when_unwatched = false) {
  v1::RunSpec spec;
  spec.mutable_scenario()->set_name("steady");
  spec.set_cancel_when_unwatched(cancel_when_unwatched);
  return spec;
}

v1::GetRunRequest Of(const std::string& id) {
  v1::GetRunRequest request;
  request.set_run_id(id);
  return request;
}

class RunManagerTest : public testing::Test {
 protected:
  RunManagerTest()
      : dir_(*base::TempDir::Make("run-manager")),
        faults_(dir_.path()),
        store_(*RunStore::Open(dir_.path() + "/runs.db")),
        files_(dir_.path()) {
    options_.unwatched_grace = absl::Milliseconds(50);
  }
  void Start() { manager_ = *RunManager::Create(options_, store_.get(), &executor_, &files_); }

  // Reads to the last event.
  std::vector<v1::RunEvent> ReadAll(const Caller& caller, const std::string& id,
                                    uint64_t cursor = 0) {
    auto watch = manager_->OpenWatch(caller, id, cursor);
    EXPECT_TRUE(watch.ok()) << watch.status();
    std::vector<v1::RunEvent> all;
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (watch.ok() && !(*watch)->done() && absl::Now() < deadline) {
      auto events = (*watch)->Next(absl::Seconds(1));
      EXPECT_TRUE(events.ok()) << events.status();
      if (!events.ok()) break;
      all.insert(all.end(), events->begin(), events->end());
    }
    EXPECT_TRUE(!all.empty() && all.back().has_finished());
    return all;
  }
  // The manager sends the last event a moment before it drops the run.
  bool WaitIdle() {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!manager_->Idle() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    return manager_->Idle();
  }
  std::string KindOf(const std::vector<v1::RunEvent>& events) {
    const v1::RunRecord& record = events.back().finished();
    return record.findings().empty() ? "" : record.findings(0).kind();
  }

  base::TempDir dir_;
  base::Faults faults_;  // Of the disk below dir_.
  std::unique_ptr<RunStore> store_;
  RecordFiles files_;
  FakeExecutor executor_;
  RunManagerOptions options_;
  std::unique_ptr<RunManager> manager_;
};

TEST_F(RunManagerTest, RunsInOrderWithinItsSlots) {
  options_.slots = 2;
  Start();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  std::vector<int64_t> started = executor_.WaitForStarts(2);
  std::sort(started.begin(), started.end());
  EXPECT_EQ(started, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(executor_.starts(), 2u);
  EXPECT_FALSE(manager_->Idle());
  executor_.Release(4);
  const auto events = ReadAll(kAnna, "r-0004");
  EXPECT_EQ(events.back().finished().verdict(), v1::PASS);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].number(), i);
  EXPECT_EQ(events[0].phase().phase(), v1::RunPhase::QUEUED);
  EXPECT_NE(events[0].phase().detail().find("in the queue"), std::string::npos);
  for (const char* id : {"r-0001", "r-0002", "r-0003"}) ReadAll(kAnna, id);
  EXPECT_TRUE(WaitIdle());
}

TEST_F(RunManagerTest, ARunOwnsItsClaimUntilItHasEnded) {
  Start();
  executor_.refuse_claims = true;
  EXPECT_EQ(manager_->Submit(kAnna, Spec()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(manager_->List(kAnna, 0, "")->entries.empty());
  executor_.refuse_claims = false;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  EXPECT_EQ(executor_.claims, 3);
  executor_.WaitForStarts(1);
  EXPECT_EQ(executor_.claims, 3);
  executor_.Release(1);
  ReadAll(kAnna, "r-0001");
  executor_.WaitForStarts(2);
  EXPECT_EQ(executor_.claims, 2);
  manager_.reset();  // r-0002 is interrupted, r-0003 waits for the next daemon.
  EXPECT_EQ(executor_.claims, 0);
  Start();
  executor_.WaitForStarts(3);
  EXPECT_EQ(executor_.claims, 1);
  executor_.Release(1);
  EXPECT_EQ(ReadAll(kAnna, "r-0003").back().finished().verdict(), v1::PASS);
  EXPECT_TRUE(WaitIdle());
  EXPECT_EQ(executor_.claims, 0);
}

TEST_F(RunManagerTest, ARunWhoseClaimIsGoneIsTakenUpAllTheSame) {
  Start();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  executor_.WaitForStarts(1);
  manager_.reset();
  executor_.refuse_claims = true;
  Start();
  executor_.Release(1);
  EXPECT_EQ(ReadAll(kAnna, "r-0002").back().finished().verdict(), v1::PASS);
}

// Lowers the soft RLIMIT_NOFILE of this process while it lives.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t count) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit low = {count, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  }
  ~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_;
};

TEST_F(RunManagerTest, QueuedRunsTakeNoDescriptors) {
  constexpr int kRuns = 150;
  const FewDescriptors few(100);
  Start();
  for (int i = 0; i < kRuns; ++i) {
    const auto id = manager_->Submit(kAnna, Spec());
    ASSERT_TRUE(id.ok()) << i << ": " << id.status();
  }
  executor_.WaitForStarts(1);
  manager_.reset();
  Start();  // Takes all of them up but the first.
  executor_.Release(kRuns - 1);
  EXPECT_EQ(ReadAll(kAnna, RunId(kRuns)).back().finished().verdict(), v1::PASS);
}

TEST_F(RunManagerTest, RunsWaitForDescriptorsInTheQueue) {
  options_.descriptor_retry = absl::Milliseconds(5);
  Start();
  executor_.Release(3);
  std::string detail;
  {
    const FewDescriptors few(30);
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (detail.find("file descriptors") == std::string::npos && absl::Now() < deadline) {
      const auto id = manager_->Submit(kAnna, Spec());
      ASSERT_TRUE(id.ok()) << id.status();
      auto events = store_->Events(*ParseRunId(*id), 0, 1);
      ASSERT_TRUE(events.ok() && events->size() == 1);
      detail = events->front().phase().detail();
    }
    EXPECT_NE(detail.find("waiting for file descriptors (ktstrd's RLIMIT_NOFILE)"),
              std::string::npos)
        << detail;
    EXPECT_EQ(executor_.starts(), 0u);
  }
  EXPECT_EQ(ReadAll(kAnna, "r-0001").back().finished().verdict(), v1::PASS);
}

TEST_F(RunManagerTest, WatchResumesAtItsCursor) {
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  executor_.Release(1);
  const auto all = ReadAll(kAnna, "r-0001");
  ASSERT_EQ(all.size(), 3u);
  const auto rest = ReadAll(kAnna, "r-0001", 2);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].number(), 2u);
  auto beyond = manager_->OpenWatch(kAnna, "r-0001", 4);
  EXPECT_EQ(beyond.status().code(), absl::StatusCode::kInvalidArgument);
  auto at_end = manager_->OpenWatch(kAnna, "r-0001", 3);
  ASSERT_TRUE(at_end.ok());
  EXPECT_TRUE((*at_end)->Next(absl::Seconds(5))->empty());
  EXPECT_TRUE((*at_end)->done());
}

TEST_F(RunManagerTest, TheLastLinesOfARunAreEvents) {
  constexpr int kLines = 20'000;
  executor_.lines = kLines;
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  executor_.Release(1);
  const auto events = ReadAll(kAnna, "r-0001");
  ASSERT_GT(events.size(), 3u);
  EXPECT_LT(events.size(), size_t{kLines});
  EXPECT_EQ(events[events.size() - 2].progress().text(), absl::StrCat("line ", kLines - 1));
}

TEST_F(RunManagerTest, OthersSeeNothing) {
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  EXPECT_EQ(manager_->Get(kBert, Of("r-0001")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager_->Cancel(kBert, "r-0001", "").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager_->OpenWatch(kBert, "r-0001", 0).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(manager_->List(kBert, 0, "")->entries.empty());
  EXPECT_EQ(manager_->List(kRoot, 0, "")->entries.size(), 1u);
  EXPECT_TRUE(manager_->Get(kRoot, Of("r-0001")).ok());
  EXPECT_EQ(manager_->Get(kAnna, Of("nonsense")).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(manager_->Cancel(kRoot, "r-0001", "by root").ok());
  EXPECT_EQ(ReadAll(kAnna, "r-0001").back().finished().findings(0).message(), "by root");
}

TEST_F(RunManagerTest, RunsComeInPages) {
  Start();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  std::vector<std::string> ids;
  std::string token;
  int pages = 0;
  do {
    const auto page = *manager_->List(kAnna, 2, token);
    EXPECT_LE(page.entries.size(), 2u);
    for (const v1::RunSummary& run : page.entries) ids.push_back(run.run_id());
    // A run that comes meanwhile belongs to no later page.
    ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
    token = page.next_token;
  } while (!token.empty() && ++pages < 10);
  EXPECT_EQ(ids, (std::vector<std::string>{"r-0005", "r-0004", "r-0003", "r-0002", "r-0001"}));
  EXPECT_EQ(manager_->List(kAnna, 2, "x").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(manager_->List(kAnna, -1, "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(manager_->List(kBert, 2, "")->next_token.empty());
}

// A client that asks for runs that are not there and does not read what is wrong with them.
TEST_F(RunManagerTest, RefusedRunsOfAStreamAreBounded) {
  Start();
  RunManager::WatchSet runs(manager_.get());
  runs.Add(kAnna, "nonsense", 0);
  EXPECT_EQ(runs.Next(absl::ZeroDuration())->at(0).run_id, "nonsense");
  for (int i = 0; i < 10'002; ++i) runs.Add(kAnna, "nonsense", 0);
  EXPECT_EQ(runs.Next(absl::ZeroDuration()).status().code(), absl::StatusCode::kResourceExhausted);
  // A name that no failure can return ends the stream, and its client knows.
  RunManager::WatchSet other(manager_.get());
  other.Add(kAnna, std::string(size_t{1} << 20, 'x'), 0);
  const absl::Status status = other.Next(absl::ZeroDuration()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_LT(status.message().size(), 200u);
}

// A watch that a set refuses takes the manager's lock when it ends, and the set's reader holds that
// one when it takes the set's: refusals and reads at once must not wait for each other.
TEST_F(RunManagerTest, RefusedRunsAndReadsDoNotBlockEachOther) {
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  RunManager::WatchSet runs(manager_.get());
  std::thread adder([&] {
    for (int i = 0; i < 3000; ++i) runs.Add(kAnna, "r-0001", 0);
    runs.Close();
  });
  int refused = 0;
  while (refused < 2999) {
    const auto steps = runs.Next(absl::Seconds(20));
    ASSERT_TRUE(steps.ok()) << steps.status();
    for (const auto& step : *steps) refused += step.events.ok() ? 0 : 1;
  }
  adder.join();
  executor_.Release(1);
}

TEST_F(RunManagerTest, CancelEndsQueuedRunWhileEverySlotIsBusy) {
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  executor_.WaitForStarts(1);
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  ASSERT_TRUE(manager_->Cancel(kAnna, "r-0002", "").ok());
  const auto events = ReadAll(kAnna, "r-0002");
  EXPECT_EQ(KindOf(events), "CANCELLED");
  EXPECT_EQ(events.back().finished().findings(0).message(), "cancelled by anna");
  EXPECT_EQ(executor_.starts(), 1u);
  ASSERT_TRUE(manager_->Cancel(kAnna, "r-0001", "enough").ok());
  EXPECT_EQ(KindOf(ReadAll(kAnna, "r-0001")), "CANCELLED");
  EXPECT_TRUE(manager_->Cancel(kAnna, "r-0001", "again").ok());
}

TEST_F(RunManagerTest, QueueLimitIsPerUser) {
  options_.max_queued = 1;
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  executor_.WaitForStarts(1);
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  EXPECT_EQ(manager_->Submit(kAnna, Spec()).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(manager_->Submit(kBert, Spec()).ok());
}

// What waits cannot be removed, so it must fit.
TEST_F(RunManagerTest, QueuedRunsAreBoundedInBytes) {
  options_.max_bytes = 50'000;
  Start();
  v1::RunSpec spec = Spec();
  spec.mutable_reproduction()->set_scheduler(std::string(20'000, 's'));
  ASSERT_TRUE(manager_->Submit(kAnna, spec).ok());
  ASSERT_TRUE(manager_->Submit(kAnna, spec).ok());
  const absl::Status third = manager_->Submit(kAnna, spec).status();
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.message()), testing::HasSubstr("run_budget_mb"));
  EXPECT_TRUE(manager_->Submit(kBert, spec).ok());
  executor_.Release(1);
  ReadAll(kAnna, "r-0001");
  EXPECT_TRUE(manager_->Submit(kAnna, spec).ok());  // It has room again.
}

TEST_F(RunManagerTest, QueuedBytesHoldForSubmitsAtOnce) {
  options_.max_bytes = 50'000;
  Start();
  v1::RunSpec spec = Spec();
  spec.mutable_reproduction()->set_scheduler(std::string(20'000, 's'));
  std::atomic<int> taken = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&] { taken += manager_->Submit(kAnna, spec).ok() ? 1 : 0; });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_LE(taken.load(), 2);  // One that ends while another is checked counts twice.
  EXPECT_LE(*store_->UnfinishedBytes(kAnna.uid), options_.max_bytes);
}

TEST_F(RunManagerTest, FinishedRunsMakeRoomWithinTheBudget) {
  options_.max_bytes = 50'000;
  Start();
  executor_.Release(4);
  v1::RunSpec spec = Spec();
  spec.mutable_reproduction()->set_scheduler(std::string(20'000, 's'));
  for (int i = 1; i <= 4; ++i) ReadAll(kAnna, *manager_->Submit(kAnna, spec));
  manager_->Stop();
  EXPECT_EQ(manager_->List(kAnna, 0, "")->entries.size(), 2u);
  EXPECT_LE(*store_->Bytes(kAnna.uid), options_.max_bytes);
}

TEST_F(RunManagerTest, QueueLimitHoldsForSubmitsAtOnce) {
  options_.max_queued = 3;
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  executor_.WaitForStarts(1);
  std::atomic<int> taken = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&] { taken += manager_->Submit(kAnna, Spec()).ok() ? 1 : 0; });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(taken.load(), 3);
}

TEST_F(RunManagerTest, SpecAndObservationsComeWhenAskedFor) {
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  executor_.WaitForStarts(1);
  v1::GetRunRequest request = Of("r-0001");
  EXPECT_FALSE(manager_->Get(kAnna, request)->has_spec());
  request.set_with_spec(true);
  request.set_with_observations(true);
  EXPECT_EQ(manager_->Get(kAnna, request)->spec().scenario().name(), "steady");
  EXPECT_FALSE(manager_->Get(kAnna, request)->has_observations());
  executor_.Release(1);
  ReadAll(kAnna, "r-0001");
  EXPECT_TRUE(manager_->Get(kAnna, request)->has_observations());
  EXPECT_FALSE(manager_->Get(kAnna, Of("r-0001"))->has_observations());
}

TEST_F(RunManagerTest, LastWatcherGoneCancelsAfterGrace) {
  Start();
  manager_->SetConnections(kAnna.uid, 1);
  ASSERT_TRUE(manager_->Submit(kAnna, Spec(/*cancel_when_unwatched=*/true)).ok());
  executor_.WaitForStarts(1);
  { auto watch = *manager_->OpenWatch(kAnna, "r-0001", 0); }
  // Not ReadAll: it would watch.
  ASSERT_TRUE(WaitIdle());
  const auto response = *manager_->Get(kAnna, Of("r-0001"));
  EXPECT_EQ(response.record().findings(0).kind(), "CANCELLED");
  EXPECT_EQ(response.record().findings(0).message(), "client disconnected");
}

TEST_F(RunManagerTest, NeverWatchedRunLivesAsLongAsTheConnection) {
  Start();
  manager_->SetConnections(kAnna.uid, 1);
  ASSERT_TRUE(manager_->Submit(kAnna, Spec(true)).ok());
  executor_.WaitForStarts(1);
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_FALSE(manager_->Idle());
  manager_->SetConnections(kAnna.uid, 0);
  ASSERT_TRUE(WaitIdle());
  EXPECT_EQ(manager_->Get(kAnna, Of("r-0001"))->record().findings(0).kind(), "CANCELLED");
}

TEST_F(RunManagerTest, DetachedRunGoesOn) {
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec(false)).ok());
  { auto watch = *manager_->OpenWatch(kAnna, "r-0001", 0); }
  absl::SleepFor(absl::Milliseconds(200));
  executor_.Release(1);
  EXPECT_EQ(ReadAll(kAnna, "r-0001").back().finished().verdict(), v1::PASS);
}

TEST_F(RunManagerTest, StopInterruptsRunningAndKeepsQueued) {
  Start();
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  executor_.WaitForStarts(1);
  ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
  auto running = *manager_->OpenWatch(kAnna, "r-0001", 1);
  auto queued = *manager_->OpenWatch(kAnna, "r-0002", 1);
  manager_->Stop();
  // The executor's first event may come first.
  auto last = running->Next(absl::Seconds(5));
  while (last.ok() && !last->back().has_finished()) last = running->Next(absl::Seconds(5));
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_EQ(last->back().finished().findings(0).kind(), "INTERRUPTED");
  EXPECT_EQ(queued->Next(absl::Seconds(5)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store_->Get(2)->state, RunState::kQueued);
  running.reset();
  queued.reset();

  Start();
  executor_.Release(1);
  EXPECT_EQ(ReadAll(kAnna, "r-0002").back().finished().verdict(), v1::PASS);
}

TEST_F(RunManagerTest, RestartAfterKillInterruptsWhatWasRunning) {
  v1::RunEvent queued;
  queued.mutable_phase()->set_phase(v1::RunPhase::QUEUED);
  ASSERT_TRUE(store_->Submit(kAnna.uid, Spec(), queued).ok());
  ASSERT_TRUE(store_->SetRunning(1).ok());
  Start();
  const auto events = ReadAll(kAnna, "r-0001");
  EXPECT_EQ(KindOf(events), "INTERRUPTED");
  EXPECT_EQ(executor_.starts(), 0u);
}

TEST_F(RunManagerTest, ADamagedRunDoesNotKeepTheDaemonFromStarting) {
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(store_->Submit(kAnna.uid, Spec(), v1::RunEvent()).ok());
  store_.reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir_.path() + "/runs.db").c_str(), &db), SQLITE_OK);
  EXPECT_EQ(
      sqlite3_exec(db, "UPDATE runs SET spec = x'ff' WHERE number = 1", nullptr, nullptr, nullptr),
      SQLITE_OK);
  sqlite3_close(db);
  store_ = *RunStore::Open(dir_.path() + "/runs.db");
  executor_.Release(1);
  Start();
  const auto events = ReadAll(kAnna, "r-0001");
  EXPECT_EQ(KindOf(events), "INTERRUPTED");
  EXPECT_NE(events.back().finished().findings(0).message().find("r-0001 is damaged"),
            std::string::npos);
  EXPECT_EQ(ReadAll(kAnna, "r-0002").back().finished().verdict(), v1::PASS);
}

class FullDiskTest : public RunManagerTest {
 protected:
  void SetUp() override {
    options_.record_retry = absl::Milliseconds(20);
    Start();
    ASSERT_TRUE(manager_->Submit(kAnna, Spec()).ok());
    executor_.WaitForStarts(1);
    // The executor's own event is stored.
    ASSERT_EQ((*manager_->OpenWatch(kAnna, "r-0001", 1))->Next(absl::Seconds(20))->size(), 1u);
    faults_.Arm(base::Fault::kNoSpace, 1, /*lasting=*/true);
    executor_.Release(1);
    auto watch = *manager_->OpenWatch(kAnna, "r-0001", 0);
    absl::Status told;
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (told.ok() && !watch->done() && absl::Now() < deadline) {
      told = watch->Next(absl::Seconds(1)).status();
    }
    EXPECT_NE(told.message().find("r-0001 ended as PASS, but is not recorded yet"),
              absl::string_view::npos)
        << told;
    EXPECT_FALSE(manager_->Idle());
    EXPECT_FALSE(manager_->Get(kAnna, Of("r-0001"))->has_record());
  }
};

TEST_F(FullDiskTest, TheEndIsRecordedOnceThereIsRoom) {
  absl::SleepFor(absl::Milliseconds(60));  // Time for a try or two, which fail.
  EXPECT_FALSE(manager_->Get(kAnna, Of("r-0001"))->has_record());
  faults_.Disarm();
  ASSERT_TRUE(WaitIdle());
  EXPECT_EQ(ReadAll(kAnna, "r-0001").back().finished().verdict(), v1::PASS);
  EXPECT_EQ(manager_->Get(kAnna, Of("r-0001"))->record().verdict(), v1::PASS);
}

TEST_F(FullDiskTest, ADaemonThatEndsTriesOnceMore) {
  faults_.Disarm();
  manager_->Stop();
  EXPECT_EQ(manager_->Get(kAnna, Of("r-0001"))->record().verdict(), v1::PASS);
}

TEST_F(FullDiskTest, WhatIsNeverRecordedIsInterruptedForTheNextDaemon) {
  manager_->Stop();
  manager_.reset();
  faults_.Disarm();
  Start();
  EXPECT_EQ(KindOf(ReadAll(kAnna, "r-0001")), "INTERRUPTED");
}

// The daemon was killed while a run was running, and the disk has no room for the end of the run.
TEST_F(RunManagerTest, AFullDiskDoesNotKeepTheDaemonFromStarting) {
  options_.record_retry = absl::Milliseconds(20);
  ASSERT_TRUE(store_->Submit(kAnna.uid, Spec(), v1::RunEvent()).ok());
  ASSERT_TRUE(store_->SetRunning(1).ok());
  ASSERT_TRUE(store_->Submit(kAnna.uid, Spec(), v1::RunEvent()).ok());
  faults_.Arm(base::Fault::kNoSpace, 1, /*lasting=*/true);
  auto started = RunManager::Create(options_, store_.get(), &executor_, &files_);
  ASSERT_TRUE(started.ok()) << started.status();
  manager_ = *std::move(started);
  EXPECT_TRUE(faults_.fired());
  EXPECT_FALSE(manager_->Idle());
  faults_.Disarm();
  executor_.Release(1);
  ASSERT_TRUE(WaitIdle());
  EXPECT_EQ(KindOf(ReadAll(kAnna, "r-0001")), "INTERRUPTED");
}

TEST_F(RunManagerTest, KeepsOnlyTheNewestFinishedRuns) {
  options_.max_kept = 2;
  Start();
  executor_.Release(4);
  for (int i = 1; i <= 4; ++i) {
    const std::string id = *manager_->Submit(kAnna, Spec());
    ReadAll(kAnna, id);
  }
  manager_->Stop();
  EXPECT_EQ(manager_->List(kAnna, 0, "")->entries.size(), 2u);
  EXPECT_EQ(manager_->Get(kAnna, Of("r-0001")).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace ktstr::daemon
