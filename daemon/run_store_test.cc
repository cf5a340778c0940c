// SPDX-License-Identifier: Apache-2.0
#include "daemon/run_store.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "daemon/testing/old_database.h"

namespace ktstr::daemon {
namespace {

constexpr uint64_t kNoBudget = UINT64_MAX;

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
  EXPECT_EQ(store->List(std::nullopt, RunStore::kNewest, 100)->size(), 3u);
  const auto mine = *store->List(uid_t{1}, RunStore::kNewest, 100);
  ASSERT_EQ(mine.size(), 2u);
  EXPECT_EQ(mine[0].number, 3);
  EXPECT_EQ(store->List(uid_t{1}, RunStore::kNewest, 1)->size(), 1u);
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
  ASSERT_TRUE(store->Prune(1, {.runs = 1, .budget_bytes = kNoBudget}).ok());
  const auto runs = *store->List(std::nullopt, RunStore::kNewest, 100);
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0].number, 5);
  EXPECT_EQ(runs[1].number, 4);
  EXPECT_EQ(runs[2].number, 1);
  EXPECT_TRUE(store->Events(2, 0, 10)->empty());
  ASSERT_TRUE(store->Finish(5, v1::RunRecord(), v1::RunObservations(), 1).ok());
  ASSERT_TRUE(store->Prune(1, {.runs = 0, .budget_bytes = kNoBudget}).ok());
  EXPECT_EQ(*store->Submit(1, Spec("s"), Phase(v1::RunPhase::QUEUED)), 6);
}

// A finished run with a MiB of observations and events. The bytes differ from run to run, so that a
// mix-up shows.
int64_t BigRun(RunStore* store, uid_t uid) {
  const int64_t number = *store->Submit(uid, Spec("big"), Phase(v1::RunPhase::QUEUED));
  v1::RunEvent console;
  console.mutable_console()->set_text(std::string(100'000, 'c'));
  EXPECT_TRUE(store->AppendEvent(number, console).ok());
  v1::RunRecord record;
  record.set_verdict(v1::FAIL);
  record.set_run_id(RunId(number));
  v1::RunObservations observations;
  observations.add_observations()->mutable_scheduler_output()->set_data(
      std::string(900'000, static_cast<char>('a' + number % 26)));
  EXPECT_TRUE(store->Finish(number, record, observations, 1).ok());
  return number;
}

TEST_F(RunStoreTest, BudgetTakesObservationsOfTheOldestThenTheRuns) {
  auto store = Open();
  const int64_t queued = *store->Submit(1, Spec("s"), Phase(v1::RunPhase::QUEUED));
  const int64_t running = *store->Submit(1, Spec("s"), Phase(v1::RunPhase::QUEUED));
  ASSERT_TRUE(store->SetRunning(running).ok());
  std::vector<int64_t> runs;
  for (int i = 0; i < 4; ++i) runs.push_back(BigRun(store.get(), 1));
  const int64_t foreign = BigRun(store.get(), 2);
  EXPECT_GT(*store->Bytes(1), 4'000'000u);
  ASSERT_TRUE(store->Prune(1, {.runs = 100, .budget_bytes = 2'500'000}).ok());
  EXPECT_LE(*store->Bytes(1), 2'500'000u);
  for (int i : {0, 1}) {
    const auto gone = store->Observations(runs[i]);
    EXPECT_EQ(gone.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(gone.status().message().find("to make room for later runs"), std::string::npos);
    const auto events = *store->Events(runs[i], 0, 10);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].number(), 2u);
    EXPECT_EQ(events[0].finished().verdict(), v1::FAIL);
    EXPECT_EQ(store->Record(runs[i])->run_id(), RunId(runs[i]));
  }
  for (int i : {2, 3}) EXPECT_TRUE(store->Observations(runs[i]).ok());
  // A budget of one byte: the run that has just finished and the unfinished ones stay.
  ASSERT_TRUE(store->Prune(1, {.runs = 100, .budget_bytes = 1, .spared = runs[3]}).ok());
  EXPECT_TRUE(store->Observations(runs[3]).ok());
  EXPECT_EQ(store->Get(runs[2]).status().code(), absl::StatusCode::kNotFound);
  // Also when many later ones finished before it did.
  ASSERT_TRUE(store->Prune(1, {.runs = 0, .budget_bytes = kNoBudget, .spared = runs[3]}).ok());
  EXPECT_TRUE(store->Observations(runs[3]).ok());
  EXPECT_EQ(store->Events(queued, 0, 10)->size(), 1u);
  EXPECT_EQ(store->Get(running)->state, RunState::kRunning);
  EXPECT_TRUE(store->Observations(foreign).ok());
}

// Removed runs free their bytes, in Bytes() and in the file.
TEST_F(RunStoreTest, FileShrinksWithTheRuns) {
  auto store = Open();
  for (int i = 0; i < 8; ++i) BigRun(store.get(), 1);
  const uint64_t before = *store->Bytes(1);
  // SQLite reuses freed pages: the file stays as large as one round of runs.
  for (int i = 0; i < 24; ++i) {
    BigRun(store.get(), 1);
    ASSERT_TRUE(store->Prune(1, {.runs = 2, .budget_bytes = kNoBudget}).ok());
  }
  EXPECT_LT(*store->Bytes(1), before);
  store.reset();
  struct stat info;
  ASSERT_EQ(stat(Path().c_str(), &info), 0);
  EXPECT_LT(static_cast<uint64_t>(info.st_size), before / 2);
}

TEST_F(RunStoreTest, FindsTheKnownRun) {
  auto store = Open();
  const std::string fingerprint(64, 'f');
  const auto finish = [&](uid_t uid, v1::Verdict verdict, const std::string& of) {
    const int64_t number = *store->Submit(uid, Spec("s"), Phase(v1::RunPhase::QUEUED));
    v1::RunRecord record;
    record.set_verdict(verdict);
    record.set_fingerprint(of);
    EXPECT_TRUE(store->Finish(number, record, v1::RunObservations(), 1).ok());
    return number;
  };
  for (const v1::Verdict verdict : {v1::ERROR, v1::INCONCLUSIVE, v1::SKIP}) {
    finish(1, verdict, fingerprint);
  }
  finish(1, v1::PASS, "");
  finish(2, v1::PASS, fingerprint);
  EXPECT_EQ(*store->FindKnown(1, fingerprint), std::nullopt);
  const int64_t passed = finish(1, v1::PASS, fingerprint);
  EXPECT_EQ(*store->FindKnown(1, fingerprint), passed);
  const int64_t failed = finish(1, v1::FAIL, fingerprint);
  EXPECT_EQ(*store->FindKnown(1, fingerprint), failed) << "the last one";
  EXPECT_EQ(*store->FindKnown(1, std::string(64, 'e')), std::nullopt);
  store = nullptr;
  store = Open();
  EXPECT_EQ(*store->FindKnown(1, fingerprint), failed);
  ASSERT_TRUE(store->Prune(1, {.runs = 0, .budget_bytes = kNoBudget}).ok());
  EXPECT_EQ(*store->FindKnown(1, fingerprint), std::nullopt);
}

class OldDatabaseTest
    : public RunStoreTest,
      public testing::WithParamInterface<void (*)(const std::string&, const v1::RunSpec&)> {};
INSTANTIATE_TEST_SUITE_P(Versions, OldDatabaseTest, testing::Values(&MakeVersion1, &MakeVersion2));

TEST_P(OldDatabaseTest, IsTakenOver) {
  GetParam()(Path(), Spec("old"));
  auto store = Open();
  EXPECT_EQ(store->Get(3)->scenario, "old");
  EXPECT_EQ(store->Spec(3)->scenario().name(), "old");
  EXPECT_EQ(store->Record(3)->verdict(), v1::PASS);
  EXPECT_TRUE(store->Observations(3).ok());
  EXPECT_EQ(store->Events(3, 0, 10)->back().finished().verdict(), v1::PASS);
  EXPECT_GT(*store->Bytes(7), 0u);
  EXPECT_TRUE(store->DueFiles()->empty());
  // Numbers of removed runs are not used again.
  EXPECT_EQ(*store->Submit(7, Spec("new"), Phase(v1::RunPhase::QUEUED)), 10);
  v1::RunRecord record;
  record.set_verdict(v1::PASS);
  record.set_fingerprint("new");
  ASSERT_TRUE(store->Finish(10, record, v1::RunObservations(), 1).ok());
  EXPECT_EQ(*store->FindKnown(7, "new"), 10);
  // As this version has it from now on.
  store = nullptr;
  EXPECT_EQ(*Open()->FindKnown(7, "new"), 10);
}

TEST_F(RunStoreTest, RecordFilesAreDueUntilTheyAreWritten) {
  auto store = Open();
  for (const char* file : {"a/x", "a/x", "a/y", ""}) {
    const int64_t number = *store->Submit(1, Spec("s"), Phase(v1::RunPhase::QUEUED));
    ASSERT_TRUE(store->Finish(number, v1::RunRecord(), v1::RunObservations(), 1, file).ok());
  }
  // Not the first: the second run of its variant replaces it.
  auto due = *store->DueFiles();
  ASSERT_EQ(due.size(), 2u);
  EXPECT_EQ(due[0].number, 2);
  EXPECT_EQ(due[0].record_file, "a/x");
  EXPECT_EQ(due[1].number, 3);
  ASSERT_TRUE(store->MarkFiled(2).ok());
  ASSERT_TRUE(store->MarkFiled(3).ok());
  EXPECT_TRUE(store->DueFiles()->empty());
}

// A process that is killed right after Submit has returned loses nothing.
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
  Open().reset();
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
