// SPDX-License-Identifier: Apache-2.0
//
// What a run leaves on disk, with each fault at each step: nothing that was acknowledged is lost,
// nothing is half there, and database and record files agree. One round is a fresh directory, a
// fault at call n, and then the same directory opened by a daemon that has no faults. Prints how
// many steps each path has.
#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/testing/fault_rounds.h"
#include "base/testing/faults.h"
#include "daemon/record_files.h"
#include "daemon/run_manager.h"
#include "daemon/run_store.h"
#include "daemon/testing/old_database.h"
#include "scenario/json.h"

namespace ktstr::daemon {
namespace {

using base::Fault;
using base::kEndFaults;

const Caller kAnna = {.uid = 1001, .user = "anna"};

v1::RunSpec Spec(const std::string& name) {
  v1::RunSpec spec;
  spec.mutable_scenario()->set_name(name);
  spec.mutable_reproduction()->set_scheduler(
      std::string(9000, 'r'));  // More than a page of the database.
  return spec;
}

v1::RunEvent Queued() {
  v1::RunEvent event;
  event.mutable_phase()->set_phase(v1::RunPhase::QUEUED);
  return event;
}

// Ends each run at once, with a record file.
class QuickExecutor : public RunExecutor {
 public:
  absl::StatusOr<std::unique_ptr<RunClaim>> Claim(uid_t, const v1::RunSpec&) override {
    return std::make_unique<RunClaim>();
  }
  RunOutcome Execute(const RunJob& job, RunReporter& reporter) override {
    reporter.Phase(v1::RunPhase::RUNNING, "quick");
    return End(job, v1::PASS);
  }
  RunOutcome Abandoned(const RunJob& job, const StopRequest&) override {
    RunOutcome outcome = End(job, v1::ERROR);
    outcome.record_file.clear();
    return outcome;
  }

 private:
  static RunOutcome End(const RunJob& job, v1::Verdict verdict) {
    RunOutcome outcome;
    outcome.record.set_run_id(RunId(job.number));
    outcome.record.set_scenario(job.spec.scenario().name());
    outcome.record.set_verdict(verdict);
    outcome.record.set_scheduler_log(std::string(9000, 'l'));
    outcome.observations.add_observations()->mutable_scheduler_output()->set_data(
        std::string(20'000, 'o'));
    outcome.record_file = RecordFiles::PathOf("anna", "7.3.4", outcome.record);
    return outcome;
  }
};

std::string Database(const std::string& dir) { return dir + "/runs.db"; }

// Every row is whole.
void CheckStore(RunStore* store, const std::string& where) {
  const auto runs = store->List(std::nullopt, RunStore::kNewest, 1000);
  ASSERT_TRUE(runs.ok()) << where << ": " << runs.status();
  for (const StoredRun& run : *runs) {
    EXPECT_EQ(store->Spec(run.number)->reproduction().scheduler().size(), 9000u) << where;
    const auto events = store->Events(run.number, 0, 1000);
    ASSERT_TRUE(events.ok()) << where << ": " << events.status();
    ASSERT_FALSE(events->empty()) << where;
    EXPECT_EQ(events->back().number() + 1, run.events) << where;
    EXPECT_EQ(events->back().has_finished(), run.state == RunState::kFinished) << where;
    const auto record = store->Record(run.number);
    EXPECT_EQ(record.ok(), run.state == RunState::kFinished) << where << record.status();
    if (record.ok()) {
      EXPECT_EQ(record->SerializeAsString(), events->back().finished().SerializeAsString());
      EXPECT_EQ(record->verdict(), run.verdict) << where;
    }
  }
}

// Every record file is whole, and is the record of a run that has finished in the database.
void CheckFiles(RunStore* store, const std::string& dir, bool staged_allowed,
                const std::string& where) {
  const std::string run_dir = dir + "/anna/7.3.4-unknown";
  for (const std::string& name : base::ListDir(run_dir).value_or(std::vector<std::string>())) {
    if (name.ends_with(".staged")) {
      EXPECT_TRUE(staged_allowed) << where << ": " << name;
      continue;
    }
    v1::RunRecord record;
    const auto text = base::ReadFile(base::JoinPath(run_dir, name));
    ASSERT_TRUE(text.ok() && scenario::FromJson(*text, &record).ok()) << where << ": " << name;
    const auto stored = store->Record(*ParseRunId(record.run_id()));
    ASSERT_TRUE(stored.ok()) << where << ": " << name << ": " << stored.status();
    EXPECT_EQ(stored->SerializeAsString(), record.SerializeAsString()) << where;
  }
}

// Nothing is opened for a submit: of the eight kinds of rounds, all but the two of EMFILE strike.
void WithEachError(const char* path, const std::function<bool(Fault, bool, uint64_t)>& round) {
  EXPECT_GE(base::EachError(path, round), 6);
}

TEST(DurabilityTest, OpenWithEachError) {
  WithEachError("open", [](Fault fault, bool lasting, uint64_t n) {
    auto dir = *base::TempDir::Make("durability");
    bool fired;
    {
      base::Faults faults(dir.path());
      faults.Arm(fault, n, lasting);
      auto store = RunStore::Open(Database(dir.path()));
      fired = faults.fired();
      if (store.ok()) {
        faults.Disarm();
        EXPECT_TRUE((*store)->Submit(1, Spec("s"), Queued()).ok()) << base::Where("open", fault, n);
      }
    }
    auto store = RunStore::Open(Database(dir.path()));
    EXPECT_TRUE(store.ok()) << base::Where("open", fault, n) << ": " << store.status();
    if (store.ok()) CheckStore(store->get(), base::Where("open", fault, n));
    return fired;
  });
}

TEST(DurabilityTest, SubmitWithEachError) {
  WithEachError("submit", [](Fault fault, bool lasting, uint64_t n) {
    auto dir = *base::TempDir::Make("durability");
    std::vector<int64_t> acknowledged;
    bool fired;
    {
      base::Faults faults(dir.path());
      auto store = *RunStore::Open(Database(dir.path()));
      acknowledged.push_back(*store->Submit(1, Spec("before"), Queued()));
      faults.Arm(fault, n, lasting);
      auto number = store->Submit(1, Spec("during"), Queued());
      fired = faults.fired();
      faults.Disarm();
      if (number.ok()) acknowledged.push_back(*number);
      // The fault is over: the same store works again.
      number = store->Submit(1, Spec("after"), Queued());
      EXPECT_TRUE(number.ok()) << base::Where("submit", fault, n) << ": " << number.status();
      if (number.ok()) acknowledged.push_back(*number);
    }
    auto store = *RunStore::Open(Database(dir.path()));
    for (const int64_t number : acknowledged) {
      EXPECT_TRUE(store->Get(number).ok()) << base::Where("submit", fault, n) << ": " << number;
    }
    CheckStore(store.get(), base::Where("submit", fault, n));
    return fired;
  });
}

TEST(DurabilityTest, SubmitThatEndsAtEachStep) {
  struct Facts {
    int64_t acknowledged[2];
  };
  for (const Fault fault : kEndFaults) {
    std::optional<base::TempDir> dir;
    base::SharedFacts<Facts> facts;
    const uint64_t steps = base::EndAtEachStep(
        fault,
        [&](uint64_t) {
          dir.emplace(*base::TempDir::Make("durability"));
          *facts = {};
          return dir->path();
        },
        [&](uint64_t) {
          // The directory of the database too is new.
          KTSTR_CHECK(base::MakeDirs(dir->path() + "/cache/runs").ok());
          auto store = *RunStore::Open(Database(dir->path() + "/cache/runs"));
          facts->acknowledged[0] = *store->Submit(1, Spec("first"), Queued());
          facts->acknowledged[1] = *store->Submit(1, Spec("second"), Queued());
        },
        [&](uint64_t n) {
          KTSTR_CHECK(base::MakeDirs(dir->path() + "/cache/runs").ok());
          auto store = RunStore::Open(Database(dir->path() + "/cache/runs"));
          ASSERT_TRUE(store.ok()) << base::Where("open and submit", fault, n) << ": "
                                  << store.status();
          for (const int64_t number : facts->acknowledged) {
            EXPECT_TRUE(number == 0 || (*store)->Get(number).ok())
                << base::Where("open and submit", fault, n);
          }
          CheckStore(store->get(), base::Where("open and submit", fault, n));
        });
    base::ReportSteps("open and submit", fault, false, steps);
  }
}

// Waits for the end of a run. False: the end could not be recorded.
bool AwaitEnd(RunManager* manager, const std::string& id) {
  auto watch = manager->OpenWatch(kAnna, id, 0);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (watch.ok() && absl::Now() < deadline) {
    const auto events = (*watch)->Next(absl::Seconds(1));
    if (!events.ok()) return false;
    if ((*watch)->done()) return true;
  }
  return false;
}

// A daemon without faults takes the directory up: afterwards database and files agree.
void TakeUp(const std::string& dir, const std::vector<std::string>& acknowledged,
            const std::vector<std::string>& ended, const std::string& where) {
  auto store = RunStore::Open(Database(dir));
  ASSERT_TRUE(store.ok()) << where << ": " << store.status();
  CheckStore(store->get(), where);
  CheckFiles(store->get(), dir, /*staged_allowed=*/true, where);
  for (const std::string& id : ended) {
    EXPECT_EQ((*store)->Record(*ParseRunId(id)).value_or(v1::RunRecord()).verdict(), v1::PASS)
        << where << ": " << id;
  }
  QuickExecutor executor;
  const RecordFiles files(dir);
  auto manager = RunManager::Create(RunManagerOptions(), store->get(), &executor, &files);
  ASSERT_TRUE(manager.ok()) << where << ": " << manager.status();
  for (const std::string& id : acknowledged) {
    EXPECT_TRUE(AwaitEnd(manager->get(), id)) << where << ": " << id;
  }
  (*manager)->Stop();
  CheckStore(store->get(), where);
  CheckFiles(store->get(), dir, /*staged_allowed=*/false, where);
  // Each run that passed has its file, or has reported that it could not write it.
  for (const std::string& id : acknowledged) {
    const v1::RunRecord record = (*store)->Record(*ParseRunId(id)).value_or(v1::RunRecord());
    if (record.verdict() != v1::PASS) continue;
    const bool filed = base::Exists(dir + "/" + RecordFiles::PathOf("anna", "7.3.4", record));
    const auto events = (*store)->Events(*ParseRunId(id), 0, 100);
    bool told = false;
    for (const v1::RunEvent& event : *events) {
      told = told || event.progress().text().find("record file not written") != std::string::npos;
    }
    EXPECT_TRUE(filed || told) << where << ": " << id;
  }
  EXPECT_TRUE((*store)->DueFiles()->empty()) << where;
}

// A run under the faults that `arm` sets off. False: none came to it.
bool RunUnder(const std::function<void(base::Faults*)>& arm, bool lasting,
              const std::string& where) {
  auto dir = *base::TempDir::Make("durability");
  std::vector<std::string> acknowledged, ended;
  bool fired = false;
  {
    base::Faults faults(dir.path());
    auto store = *RunStore::Open(Database(dir.path()));
    QuickExecutor executor;
    const RecordFiles files(dir.path());
    RunManagerOptions options;
    options.record_retry = absl::Milliseconds(1);
    auto manager = *RunManager::Create(options, store.get(), &executor, &files);
    arm(&faults);
    auto id = manager->Submit(kAnna, Spec("run"));
    if (id.ok()) {
      acknowledged.push_back(*id);
      if (AwaitEnd(manager.get(), *id) && !lasting) {
        const auto response = manager->Get(kAnna, [&] {
          v1::GetRunRequest request;
          request.set_run_id(*id);
          return request;
        }());
        if (response.ok() && response->record().verdict() == v1::PASS) ended.push_back(*id);
      }
    }
    fired = faults.fired();
    faults.Disarm();
    manager->Stop();
  }
  TakeUp(dir.path(), acknowledged, ended, where);
  return fired;
}

TEST(DurabilityTest, RunWithEachError) {
  WithEachError("run", [](Fault fault, bool lasting, uint64_t n) {
    return RunUnder([&](base::Faults* faults) { faults->Arm(fault, n, lasting); }, lasting,
                    base::Where("run", fault, n));
  });
}

// The fault may end between any two steps: also between what a run that has ended first tries and
// what it does because that failed.
TEST(DurabilityTest, RunOnADiskThatIsFullForAWhile) {
  for (const uint64_t calls : {2, 3, 4, 6}) {
    const auto under = [&](uint64_t n) {
      return RunUnder([&](base::Faults* faults) { faults->ArmFor(Fault::kNoSpace, n, calls); },
                      /*lasting=*/true,
                      absl::StrCat(base::Where("run", Fault::kNoSpace, n), " for ", calls));
    };
    uint64_t n = 1;
    while (under(n)) ++n;
    EXPECT_GT(n, 20u);
  }
}

TEST(DurabilityTest, RunThatEndsAtEachStep) {
  struct Facts {
    bool submitted;
    bool ended;
  };
  for (const Fault fault : kEndFaults) {
    std::optional<base::TempDir> dir;
    base::SharedFacts<Facts> facts;
    const uint64_t steps = base::EndAtEachStep(
        fault,
        [&](uint64_t) {
          dir.emplace(*base::TempDir::Make("durability"));
          *facts = {};
          EXPECT_TRUE(RunStore::Open(Database(dir->path())).ok());
          return dir->path();
        },
        [&](uint64_t) {
          auto store = *RunStore::Open(Database(dir->path()));
          QuickExecutor executor;
          const RecordFiles files(dir->path());
          auto manager = *RunManager::Create(RunManagerOptions(), store.get(), &executor, &files);
          facts->submitted = manager->Submit(kAnna, Spec("run")).ok();
          facts->ended = AwaitEnd(manager.get(), "r-0001");
        },
        [&](uint64_t n) {
          TakeUp(dir->path(),
                 facts->submitted ? std::vector<std::string>{"r-0001"} : std::vector<std::string>{},
                 facts->ended ? std::vector<std::string>{"r-0001"} : std::vector<std::string>{},
                 base::Where("run", fault, n));
        });
    base::ReportSteps("run", fault, false, steps);
  }
}

class OldVersionTest
    : public testing::TestWithParam<void (*)(const std::string&, const v1::RunSpec&)> {};
INSTANTIATE_TEST_SUITE_P(Versions, OldVersionTest, testing::Values(&MakeVersion1, &MakeVersion2));

TEST_P(OldVersionTest, TakingItOverEndsAtEachStep) {
  for (const Fault fault : kEndFaults) {
    std::optional<base::TempDir> dir;
    const uint64_t steps = base::EndAtEachStep(
        fault,
        [&](uint64_t) {
          dir.emplace(*base::TempDir::Make("durability"));
          GetParam()(Database(dir->path()), Spec("old"));
          return dir->path();
        },
        [&](uint64_t) { (void)RunStore::Open(Database(dir->path())).ok(); },
        [&](uint64_t n) {
          auto store = RunStore::Open(Database(dir->path()));
          ASSERT_TRUE(store.ok()) << base::Where("take over an old version", fault, n) << ": "
                                  << store.status();
          CheckStore(store->get(), base::Where("take over an old version", fault, n));
          EXPECT_EQ((*store)->Record(3).value_or(v1::RunRecord()).verdict(), v1::PASS)
              << base::Where("take over an old version", fault, n);
          // Numbers of removed runs are not used again.
          EXPECT_EQ((*store)->Submit(1, Spec("new"), Queued()).value_or(0), 10)
              << base::Where("take over an old version", fault, n);
        });
    EXPECT_GT(steps, 1u);
    base::ReportSteps("take over an old version", fault, false, steps);
  }
}

// Prune leaves no half of a run.
TEST(DurabilityTest, PruneThatEndsAtEachStep) {
  for (const Fault fault : kEndFaults) {
    std::optional<base::TempDir> dir;
    const auto finish = [](RunStore* store) {
      const int64_t number = *store->Submit(1, Spec("s"), Queued());
      KTSTR_CHECK(store->AppendEvent(number, Queued()).ok());
      v1::RunObservations observations;
      observations.add_observations()->mutable_scheduler_output()->set_data(
          std::string(20'000, 'o'));
      KTSTR_CHECK(store->Finish(number, v1::RunRecord(), observations, 1).ok());
    };
    const uint64_t steps = base::EndAtEachStep(
        fault,
        [&](uint64_t) {
          dir.emplace(*base::TempDir::Make("durability"));
          auto store = *RunStore::Open(Database(dir->path()));
          for (int i = 0; i < 4; ++i) finish(store.get());
          return dir->path();
        },
        [&](uint64_t) {
          auto store = *RunStore::Open(Database(dir->path()));
          KTSTR_CHECK(store->Prune(1, {.runs = 3, .budget_bytes = 60'000, .spared = 4}).ok());
          KTSTR_CHECK(store->Prune(1, {.runs = 3, .budget_bytes = 1, .spared = 4}).ok());
        },
        [&](uint64_t n) {
          auto store = RunStore::Open(Database(dir->path()));
          ASSERT_TRUE(store.ok()) << base::Where("prune", fault, n) << ": " << store.status();
          CheckStore(store->get(), base::Where("prune", fault, n));
          EXPECT_TRUE((*store)->Observations(4).ok()) << base::Where("prune", fault, n);
        });
    base::ReportSteps("prune", fault, false, steps);
  }
}

}  // namespace
}  // namespace ktstr::daemon
