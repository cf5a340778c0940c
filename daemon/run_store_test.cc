// SPDX-License-Identifier: Apache-2.0
#include "daemon/run_store.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

namespace ktstr::daemon {
namespace {

v1::RunSpec Spec(const std::string& name) {
  v1::RunSpec spec;
  spec.mutable_scenario()->set_name(name);
  return spec;
}

v1::RunEvent Phase(v1::RunPhase::Phase phase) {
  v1::RunEvent event;
  event.set_unix_ms(1000);
  event.mutable_phase()->set_phase(phase);
  return event;
}

class RunStoreTest : public testing::Test {
 protected:
  RunStoreTest() : dir_(*base::TempDir::Make("run-store")) {}
  std::string Path() const { return dir_.path() + "/runs.db"; }
  std::unique_ptr<RunStore> Open() {
    auto store = RunStore::Open(Path());
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  base::TempDir dir_;
};

TEST(RunIdTest, RoundTripAndRefusals) {
  EXPECT_EQ(RunId(193), "r-0193");
  EXPECT_EQ(RunId(123456), "r-123456");
  EXPECT_EQ(ParseRunId("r-0193"), 193);
  EXPECT_EQ(ParseRunId("r-123456"), 123456);
  for (const char* bad : {"", "r-", "r-0", "r-193", "r-00193", "r--193", "x-0193", "r-0193 ",
                          "r-99999999999999999999", "R-0193"}) {
    EXPECT_EQ(ParseRunId(bad), std::nullopt) << bad;
  }
}

TEST_F(RunStoreTest, RunLivesThroughItsStates) {
  auto store = Open();
  const int64_t number = *store->Submit(7, Spec("steady"), Phase(v1::RunPhase::QUEUED));
  EXPECT_EQ(number, 1);
  EXPECT_EQ(store->Get(number)->state, RunState::kQueued);
  EXPECT_EQ(store->Record(number).status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(store->SetRunning(number).ok());
  EXPECT_EQ(store->SetRunning(number).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*store->AppendEvent(number, Phase(v1::RunPhase::KERNEL)), 2u);

  v1::RunRecord record;
  record.set_verdict(v1::PASS);
  v1::RunObservations observations;
  observations.add_observations()->mutable_stage()->set_stage(v1::DONE);
  EXPECT_EQ(*store->Finish(number, record, observations, 5), 3u);
  EXPECT_EQ(store->AppendEvent(number, Phase(v1::RunPhase::KERNEL)).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(store->Finish(number, record, observations, 6).status().code(),
            absl::StatusCode::kAlreadyExists);

  const StoredRun run = *store->Get(number);
  EXPECT_EQ(run.state, RunState::kFinished);
  EXPECT_EQ(run.verdict, v1::PASS);
  EXPECT_EQ(run.scenario, "steady");
  EXPECT_EQ(run.uid, 7u);
  EXPECT_EQ(store->Observations(number)->observations_size(), 1);
  EXPECT_EQ(store->Spec(number)->scenario().name(), "steady");
  const auto events = *store->Events(number, 0, 100);
  ASSERT_EQ(events.size(), 3u);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].number(), i);
  EXPECT_TRUE(events[2].has_finished());
  EXPECT_EQ(store->Events(number, 2, 100)->size(), 1u);
  EXPECT_EQ(store->Events(number, 1, 1)->size(), 1u);
  EXPECT_TRUE(store->Events(number, UINT64_MAX, 100)->empty());
}

TEST_F(RunStoreTest, ListIsNewestFirstAndByUser) {
  auto store = Open();
  for (uid_t uid : {1, 2, 1}) {
    ASSERT_TRUE(store->Submit(uid, Spec("s"), Phase(v1::RunPhase::QUEUED)).ok());
  }
  EXPECT_EQ(store->List(std::nullopt, 100)->size(), 3u);
  const auto mine = *store->List(uid_t{1}, 100);
  ASSERT_EQ(mine.size(), 2u);
  EXPECT_EQ(mine[0].number, 3);
  EXPECT_EQ(store->List(uid_t{1}, 1)->size(), 1u);
  EXPECT_EQ(store->Unfinished()->front().number, 1);
  EXPECT_EQ(store->Get(99).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(RunStoreTest, PruneTakesOldestFinishedOfThatUserAndNumbersAreNotReused) {
  auto store = Open();
  for (int i = 0; i < 5; ++i) {
    const int64_t number = *store->Submit(i == 0 ? 9 : 1, Spec("s"), Phase(v1::RunPhase::QUEUED));
    if (i == 4) break;
    ASSERT_TRUE(store->Finish(number, v1::RunRecord(), v1::RunObservations(), 1).ok());
  }
  ASSERT_TRUE(store->Prune(1, 1).ok());
  const auto runs = *store->List(std::nullopt, 100);
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0].number, 5);
  EXPECT_EQ(runs[1].number, 4);
  EXPECT_EQ(runs[2].number, 1);
  EXPECT_TRUE(store->Events(2, 0, 10)->empty());
  ASSERT_TRUE(store->Finish(5, v1::RunRecord(), v1::RunObservations(), 1).ok());
  ASSERT_TRUE(store->Prune(1, 0).ok());
  EXPECT_EQ(*store->Submit(1, Spec("s"), Phase(v1::RunPhase::QUEUED)), 6);
}

// The promise behind the id: a process that is killed right after Submit has lost nothing.
TEST_F(RunStoreTest, AcknowledgedRunSurvivesKill) {
  int out[2];
  ASSERT_EQ(pipe(out), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto store = RunStore::Open(Path());
    int64_t number = -1;
    if (store.ok()) number = *(*store)->Submit(3, Spec("kept"), Phase(v1::RunPhase::QUEUED));
    if (number < 0 || write(out[1], &number, sizeof(number)) != sizeof(number)) _exit(1);
    pause();
  }
  int64_t number = 0;
  ASSERT_EQ(read(out[0], &number, sizeof(number)), static_cast<ssize_t>(sizeof(number)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(out[0]);
  close(out[1]);
  auto store = Open();
  EXPECT_EQ(store->Get(number)->scenario, "kept");
  EXPECT_EQ(store->Events(number, 0, 10)->size(), 1u);
}

TEST_F(RunStoreTest, FileIsPrivate) {
  Open();
  struct stat info;
  ASSERT_EQ(stat(Path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(RunStoreTest, RefusesGarbageAndOtherSchema) {
  ASSERT_TRUE(base::WriteFileAtomic(Path(), std::string(4096, 'x')).ok());
  auto garbage = RunStore::Open(Path());
  EXPECT_EQ(garbage.status().code(), absl::StatusCode::kDataLoss) << garbage.status();
  EXPECT_NE(garbage.status().message().find(Path()), std::string::npos);
  unlink(Path().c_str());
  Open();
  sqlite3* db = nullptr;
  sqlite3_open(Path().c_str(), &db);
  sqlite3_exec(db, "PRAGMA user_version = 42", nullptr, nullptr, nullptr);
  sqlite3_close(db);
  EXPECT_EQ(RunStore::Open(Path()).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RunStoreTest, MissingDirectoryNamesThePath) {
  auto store = RunStore::Open(dir_.path() + "/no/runs.db");
  EXPECT_EQ(store.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(store.status().message().find("no/runs.db"), std::string::npos);
}

}  // namespace
}  // namespace ktstr::daemon
