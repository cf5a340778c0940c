// SPDX-License-Identifier: Apache-2.0
// Warm starts through a real daemon and a fake VM: when a snapshot is taken, used, dropped.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/sha256.h"
#include "cache/snapshot_store.h"
#include "daemon/machine_runner.h"
#include "daemon/testing/test_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scenario/json.h"

namespace ktstr::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WarmStartTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_.options().config.set_qemu_path(KTSTR_FAKE_QEMU);
    server_.options().config.set_prepared_vms(0);
    Start();
  }
  void Start() { ASSERT_TRUE(server_.Start().ok()); }
  void Restart() {
    server_.Stop();
    Start();
  }
  struct Course {
    v1::RunRecord record;
    std::string starts;  // Details of the STARTING phases.
    std::string notes;
    std::string console;
  };
  Course Run(const v1::RunSpec& spec) {
    TestClient client = server_.Connect();
    Course course;
    std::string id;
    EXPECT_TRUE(client.Submit(spec, &id).ok());
    std::vector<v1::RunEvent> events;
    EXPECT_TRUE(client.Watch(id, 0, &events).ok());
    for (const v1::RunEvent& event : events) {
      if (event.phase().phase() == v1::RunPhase::STARTING) {
        absl::StrAppend(&course.starts, event.phase().detail(), "\n");
      }
      if (event.has_progress()) absl::StrAppend(&course.notes, event.progress().text(), "\n");
      if (event.has_console()) course.console += event.console().text();
      if (event.has_finished()) course.record = event.finished();
    }
    EXPECT_EQ(course.record.verdict(), v1::PASS) << course.record.DebugString();
    return course;
  }
  std::vector<v1::SnapshotEntry> List() {
    TestClient client = server_.Connect();
    grpc::ClientContext context;
    v1::ListSnapshotsResponse response;
    EXPECT_TRUE(client->ListSnapshots(&context, v1::ListSnapshotsRequest(), &response).ok());
    return {response.snapshots().begin(), response.snapshots().end()};
  }
  std::string SnapshotsDir() { return server_.dir() + "/cache/snapshots"; }
  // A file of the only snapshot. It is there once the daemon has ended.
  std::string SnapshotFile(const std::string& name) {
    const std::vector<std::string> entries = *base::ListDir(SnapshotsDir());
    for (const std::string& entry : entries) {
      if (entry != ".tmp") return absl::StrCat(SnapshotsDir(), "/", entry, "/", name);
    }
    ADD_FAILURE() << "no snapshot in " << SnapshotsDir();
    return "";
  }
  // Children of this process, of any thread.
  static std::vector<pid_t> Children() {
    std::vector<pid_t> pids;
    const std::vector<std::string> threads = *base::ListDir("/proc/self/task");
    for (const std::string& thread : threads) {
      const auto text = base::ReadFile(absl::StrCat("/proc/self/task/", thread, "/children"));
      if (!text.ok()) continue;
      for (absl::string_view word : absl::StrSplit(*text, ' ', absl::SkipWhitespace())) {
        int pid = 0;
        if (absl::SimpleAtoi(word, &pid)) pids.push_back(pid);
      }
    }
    return pids;
  }
  static bool WaitFor(const std::function<bool()>& condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      usleep(10'000);  // No event reports it.
    }
    return false;
  }

  TestServer server_;
};

TEST_F(WarmStartTest, FirstRunTakesASnapshotLaterOnesStartFromIt) {
  const Course first = Run(FakeSpec("pass"));
  EXPECT_THAT(first.starts, HasSubstr("boots once for a snapshot"));
  EXPECT_EQ(first.record.timings().start(), v1::Timings::RESTORE);
  const Course second = Run(FakeSpec("pass"));
  EXPECT_THAT(second.starts, HasSubstr("engine tcg, warm, virtual time"));
  EXPECT_EQ(second.record.timings().start(), v1::Timings::RESTORE);
  EXPECT_EQ(second.record.guest_digest(), first.record.guest_digest());
  Restart();
  EXPECT_THAT(Run(FakeSpec("pass")).starts, HasSubstr("engine tcg, warm, virtual time"));
  const auto entries = List();
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].error(), "");
  EXPECT_THAT(entries[0].label(), HasSubstr("7.3.4-fake 1n1l1c1t"));
}

TEST_F(WarmStartTest, NoWarmBoots) {
  v1::RunSpec spec = FakeSpec("pass");
  spec.set_warm(v1::WARM_OFF);
  const Course course = Run(spec);
  EXPECT_THAT(course.starts, HasSubstr("cold boot"));
  EXPECT_EQ(course.record.timings().start(), v1::Timings::BOOT);
  EXPECT_THAT(List(), IsEmpty());
}

// A warm start needs no disk; the user gets one note.
TEST_F(WarmStartTest, SnapshotThatCannotBeKeptIsANote) {
  ASSERT_TRUE(base::RemoveAll(SnapshotsDir()).ok());
  const base::UniqueFd in_the_way = *base::Open(SnapshotsDir(), O_CREAT | O_EXCL | O_WRONLY, 0600);
  std::string notes = Run(FakeSpec("pass")).notes;
  const Course second = Run(FakeSpec("pass"));
  EXPECT_THAT(second.starts, HasSubstr("engine tcg, warm"));
  notes += second.notes + Run(FakeSpec("pass")).notes;
  const std::string what = "snapshot not kept on disk";
  const size_t at = notes.find(what);
  ASSERT_NE(at, std::string::npos) << notes;
  EXPECT_EQ(notes.find(what, at + 1), std::string::npos) << notes;
  EXPECT_THAT(notes, HasSubstr(SnapshotsDir()));
}

// A verbose kernel is another machine.
TEST_F(WarmStartTest, ConsoleComesToThoseWhoAskForIt) {
  EXPECT_EQ(Run(FakeSpec("pass")).console, "");
  v1::RunSpec spec = FakeSpec("pass");
  spec.set_dmesg(true);
  const Course loud = Run(spec);
  EXPECT_EQ(loud.console, "[    0.1] fake kernel\n");
  EXPECT_THAT(loud.starts, HasSubstr("boots once"));
  EXPECT_THAT(Run(spec).starts, HasSubstr("engine tcg, warm"));
}

// Another topology is another machine.
TEST_F(WarmStartTest, OneSnapshotPerMachine) {
  Run(FakeSpec("pass"));
  v1::RunSpec other = FakeSpec("pass");
  other.mutable_scenario()->set_memory_mb(2048);
  EXPECT_THAT(Run(other).starts, HasSubstr("boots once"));
  Restart();
  EXPECT_EQ(List().size(), 2u);
}

TEST_F(WarmStartTest, DamagedSnapshotIsANoteAndANewOne) {
  Run(FakeSpec("pass"));
  server_.Stop();
  {
    base::UniqueFd ram = *base::Open(SnapshotFile("ram-0"), O_RDWR);
    ASSERT_EQ(pwrite(ram.get(), "x", 1, 5000), 1);
  }
  Start();
  const Course course = Run(FakeSpec("pass"));
  EXPECT_THAT(course.notes, HasSubstr("snapshot unusable: "));
  EXPECT_THAT(course.notes, HasSubstr("checksum"));
  EXPECT_THAT(course.starts, HasSubstr("boots once for a snapshot"));
  Restart();
  const Course later = Run(FakeSpec("pass"));
  EXPECT_THAT(later.starts, HasSubstr("engine tcg, warm, virtual time"));
  EXPECT_THAT(later.notes, ::testing::Not(HasSubstr("unusable")));
}

// A whole snapshot that only the VM process can find unusable.
TEST_F(WarmStartTest, RefusedSnapshotIsANoteAndANewOne) {
  Run(FakeSpec("pass"));
  server_.Stop();
  const std::string dir = std::string(base::Dirname(SnapshotFile("state")));
  {
    // Another machine's state under the right identity.
    cache::SnapshotStore store(SnapshotsDir(), 1 << 30);
    v1::SnapshotMetadata metadata;
    base::UniqueFd state = *base::MakeMemfd("state", 0);
    ASSERT_TRUE(base::WriteAll(state.get(), "foreign", "state").ok());
    base::UniqueFd ram = *base::MakeMemfd("ram", 4096);
    const std::string text = *base::ReadFile(dir + "/metadata.json");
    ASSERT_TRUE(scenario::FromJson(text, &metadata).ok());
    ASSERT_TRUE(
        store.Store({metadata.identity(), "x", std::nullopt, 0}, state.get(), {ram.get()}).ok());
  }
  Start();
  const Course course = Run(FakeSpec("pass"));
  EXPECT_THAT(course.notes, HasSubstr("unusable: the device state is another machine's"));
  EXPECT_THAT(course.starts, HasSubstr("boots once for a snapshot"));
  EXPECT_THAT(Run(FakeSpec("pass")).starts, HasSubstr("engine tcg, warm, virtual time"));
}

TEST_F(WarmStartTest, MachineThatCannotBeFrozenBoots) {
  const Course course = Run(FakeSpec("nosnapshot"));
  EXPECT_THAT(course.notes, HasSubstr("unusable: this machine cannot be frozen"));
  EXPECT_THAT(course.starts, HasSubstr("cold boot"));
  EXPECT_EQ(course.record.timings().start(), v1::Timings::BOOT);
  EXPECT_THAT(List(), IsEmpty());
}

TEST_F(WarmStartTest, CleanRemovesThem) {
  Run(FakeSpec("pass"));
  TestClient client = server_.Connect();
  grpc::ClientContext context;
  v1::CleanSnapshotsResponse response;
  const auto reader = client->CleanSnapshots(&context, v1::CleanSnapshotsRequest());
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_EQ(response.removed_size(), 1);
  EXPECT_THAT(List(), IsEmpty());
  EXPECT_THAT(Run(FakeSpec("pass")).starts, HasSubstr("boots once for a snapshot"));
}

TEST_F(WarmStartTest, CacheThatCannotKeepThemCostsNoRun) {
  server_.Stop();
  ASSERT_TRUE(base::RemoveAll(SnapshotsDir()).ok());
  ASSERT_TRUE(base::WriteFileAtomic(SnapshotsDir(), "in the way").ok());
  Start();
  Run(FakeSpec("pass"));
  // The snapshot is in memory.
  EXPECT_THAT(Run(FakeSpec("pass")).starts, HasSubstr("engine tcg, warm, virtual time"));
}

TEST_F(WarmStartTest, EngineThatDoesNotSayWhatItIsStartsCold) {
  server_.Stop();
  server_.options().config.set_qemu_path("true");
  Start();
  EXPECT_THAT(Run(FakeSpec("pass")).starts, HasSubstr("cold boot"));
}

TEST_F(WarmStartTest, NextMachineWaitsRestoredAndMayBeKilled) {
  server_.Stop();
  server_.options().config.set_prepared_vms(1);
  Start();
  Run(FakeSpec("pass"));
  ASSERT_TRUE(WaitFor([] { return Children().size() == 1; }));
  const pid_t waiting = Children()[0];
  const Course second = Run(FakeSpec("pass"));
  EXPECT_THAT(second.notes, HasSubstr(absl::StrCat("fake vm pid ", waiting, "\n")));
  ASSERT_TRUE(WaitFor([&] { return Children().size() == 1 && Children()[0] != waiting; }));
  kill(Children()[0], SIGKILL);
  const Course third = Run(FakeSpec("pass"));
  EXPECT_EQ(third.record.timings().start(), v1::Timings::RESTORE);
  EXPECT_THAT(third.notes, ::testing::Not(HasSubstr("unusable")));
  ASSERT_TRUE(WaitFor([] { return Children().size() == 1; }));
  server_.Stop();
  EXPECT_THAT(Children(), IsEmpty());
}

TEST_F(WarmStartTest, MachineThatRewindsTakesTheNextRunOfItsUser) {
  server_.Stop();
  server_.options().config.set_prepared_vms(1);
  Start();
  Run(FakeSpec("rewinds"));  // Boots.
  ASSERT_TRUE(WaitFor([] { return Children().size() == 1; }));
  const pid_t first = Children()[0];
  for (int i = 0; i < 3; ++i) {
    const Course next = Run(FakeSpec("rewinds"));
    EXPECT_THAT(next.notes, HasSubstr(absl::StrCat("fake vm pid ", first, "\n")));
    EXPECT_EQ(next.record.verdict(), v1::PASS);
    EXPECT_EQ(next.record.timings().start(), v1::Timings::RESTORE);
    EXPECT_THAT(Children(), ElementsAre(first));
  }
  // It is killed while it waits, or does not get back to its snapshot: the next run starts anew.
  kill(first, SIGKILL);
  const Course after = Run(FakeSpec("sticks"));
  EXPECT_THAT(after.notes, ::testing::Not(HasSubstr(absl::StrCat("fake vm pid ", first, "\n"))));
  EXPECT_EQ(after.record.verdict(), v1::PASS);
  const Course last = Run(FakeSpec("pass"));
  EXPECT_EQ(last.record.verdict(), v1::PASS);
  EXPECT_THAT(last.notes, ::testing::Not(HasSubstr("unusable")));
  server_.Stop();
  EXPECT_THAT(Children(), IsEmpty());
}

class AttachedTest : public WarmStartTest {
 protected:
  // A run that may start from an attached snapshot. `mode`: of the fake VM.
  v1::RunSpec Spec(const std::string& mode = "pass", const std::string& file = "#!fake 1") {
    TestClient client = server_.Connect();
    EXPECT_TRUE(client.Put(base::Sha256Hex(file), file).ok());
    v1::RunSpec spec = FakeSpec("pass");
    AddScheduler(file, &spec);
    spec.mutable_scenario()->mutable_scheduler()->add_args(absl::StrCat("fake-", mode));
    spec.set_warm(v1::WARM_ATTACHED);
    return spec;
  }
};

TEST_F(AttachedTest, FirstRunAttachesOnceLaterOnesStartFromThere) {
  const Course first = Run(Spec());
  EXPECT_THAT(first.starts,
              HasSubstr("boots once for a snapshot, then warm, attaches once for a snapshot"));
  EXPECT_EQ(first.record.timings().start(), v1::Timings::ATTACHED);
  v1::RunSpec other_seed = Spec();
  other_seed.mutable_scenario()->set_seed(7);
  for (int i = 0; i < 2; ++i) {
    const Course later = Run(other_seed);
    EXPECT_THAT(later.starts, HasSubstr("engine tcg, attached, virtual time, seed 7"));
    EXPECT_EQ(later.record.timings().start(), v1::Timings::ATTACHED);
    Restart();
  }
  const auto entries = List();
  ASSERT_EQ(entries.size(), 2u);
  std::string labels;
  for (const v1::SnapshotEntry& entry : entries) {
    absl::StrAppend(&labels, entry.label(), "\n");
    EXPECT_EQ(entry.has_owner(), absl::StrContains(entry.label(), "attached"));
    if (entry.has_owner()) {
      EXPECT_EQ(entry.owner(), geteuid());
    }
  }
  EXPECT_THAT(labels, HasSubstr("MiB, scx_fake attached\n"));
}

TEST_F(AttachedTest, OtherFilesOrArgumentsAttachAnew) {
  Run(Spec());
  EXPECT_THAT(Run(Spec("pass", "#!fake 2")).starts, HasSubstr("warm, attaches once"));
  v1::RunSpec spec = Spec();
  spec.mutable_scenario()->mutable_scheduler()->add_args("--slice");
  EXPECT_THAT(Run(spec).starts, HasSubstr("warm, attaches once"));
  spec.set_warm(v1::WARM_BOOT);
  const Course boot = Run(spec);
  EXPECT_THAT(boot.starts, HasSubstr("engine tcg, warm, virtual time"));
  EXPECT_EQ(boot.record.timings().start(), v1::Timings::RESTORE);
}

TEST(AttachedIdentity, IsOneUsersAndOfOneAttach) {
  v1::RunSpec spec;
  spec.add_files()->set_guest_path("bin/a");
  spec.mutable_files(0)->set_sha256("aa");
  v1::GuestPlan plan;
  plan.set_attach_only(true);
  const std::string identity = AttachedIdentity(1000, spec, plan);
  EXPECT_EQ(AttachedIdentity(1000, spec, plan), identity);
  EXPECT_NE(AttachedIdentity(1001, spec, plan), identity);
  v1::RunSpec executable = spec;
  executable.mutable_files(0)->set_executable(true);
  EXPECT_NE(AttachedIdentity(1000, executable, plan), identity);
  v1::GuestPlan other = plan;
  other.mutable_scheduler()->add_args("x");
  EXPECT_NE(AttachedIdentity(1000, spec, other), identity);
  // A path cannot look like another line.
  spec.mutable_files(0)->set_guest_path("bin/a aa\nfile b");
  EXPECT_THAT(AttachedIdentity(1000, spec, plan), HasSubstr("file bin/a aa\\nfile b aa\n"));
}

TEST_F(AttachedTest, WithoutASchedulerThereIsNothingToAttach) {
  v1::RunSpec spec = FakeSpec("pass");
  spec.set_warm(v1::WARM_ATTACHED);
  const Course course = Run(spec);
  EXPECT_EQ(course.record.timings().start(), v1::Timings::RESTORE);
  EXPECT_EQ(List().size(), 1u);
}

// The run finds out what is wrong, with its own seed; the attempt is not repeated.
TEST_F(AttachedTest, AttachThatFailsIsTheRunsOwn) {
  const Course first = Run(Spec("noattach"));
  EXPECT_THAT(first.notes, HasSubstr("so the run attaches it itself: the scheduler was not"));
  EXPECT_EQ(first.record.timings().start(), v1::Timings::RESTORE);
  const Course second = Run(Spec("noattach"));
  EXPECT_THAT(second.starts, HasSubstr("engine tcg, warm, virtual time"));
  EXPECT_THAT(second.notes, ::testing::Not(HasSubstr("attaches it itself")));
}

// What was not the guest's doing is tried again.
TEST_F(AttachedTest, AttachThatFailsThroughTheHostIsTriedAgain) {
  for (int i = 0; i < 2; ++i) {
    const Course course = Run(Spec("hostfails"));
    EXPECT_THAT(course.notes, HasSubstr("attaches it itself: the host's time limit")) << i;
    EXPECT_EQ(course.record.timings().start(), v1::Timings::RESTORE);
  }
}

// The snapshot stays: another seed may do better.
TEST_F(AttachedTest, SchedulerThatEndsInTheSnapshotIsStartedAnew) {
  const Course course = Run(Spec("falls"));
  EXPECT_THAT(course.notes, HasSubstr("ended before the first step"));
  EXPECT_EQ(course.record.timings().start(), v1::Timings::RESTORE);
  const Course again = Run(Spec("falls"));
  EXPECT_THAT(again.starts, HasSubstr("engine tcg, attached"));
  EXPECT_EQ(again.record.timings().start(), v1::Timings::RESTORE);
  Restart();
  EXPECT_EQ(List().size(), 2u);
}

TEST_F(AttachedTest, DamagedAttachedSnapshotIsANoteAndANewOne) {
  Run(Spec());
  const auto entries = List();
  server_.Stop();
  int damaged = 0;
  for (const v1::SnapshotEntry& entry : entries) {
    if (!entry.has_owner()) continue;
    const std::string path = absl::StrCat(SnapshotsDir(), "/", entry.key(), "/ram-0");
    const base::UniqueFd ram = *base::Open(path, O_RDWR);
    ASSERT_EQ(pwrite(ram.get(), "x", 1, 5000), 1);
    ++damaged;
  }
  EXPECT_EQ(damaged, 1);
  Start();
  const Course course = Run(Spec());
  EXPECT_THAT(course.notes, HasSubstr("snapshot of the attached scheduler unusable: "));
  EXPECT_THAT(course.starts, HasSubstr("engine tcg, warm, attaches once"));
  EXPECT_EQ(course.record.timings().start(), v1::Timings::ATTACHED);
}

// One run attaches for all; a run that waits for it can be cancelled, and so can the other.
TEST_F(AttachedTest, RunsWaitForTheOneThatAttaches) {
  TestClient client = server_.Connect();
  std::string ids[2];
  for (std::string& id : ids) {
    ASSERT_TRUE(client.Submit(Spec("slowattach"), &id).ok());
    if (&id != &ids[0]) break;
    std::vector<v1::RunEvent> events;
    client.Watch(id, 0, &events, [](const v1::RunEvent& event) {
      return event.phase().phase() == v1::RunPhase::ATTACHING;
    });
  }
  for (int i : {1, 0}) {
    grpc::ClientContext context;
    v1::CancelRunRequest request;
    v1::CancelRunResponse response;
    request.set_run_id(ids[i]);
    ASSERT_TRUE(client->CancelRun(&context, request, &response).ok());
    std::vector<v1::RunEvent> events;
    ASSERT_TRUE(client.Watch(ids[i], 0, &events).ok());
    EXPECT_THAT(events.back().finished().findings(0).kind(), HasSubstr("CANCELLED"));
  }
  EXPECT_THAT(List(), ::testing::SizeIs(1));
}

}  // namespace
}  // namespace ktstr::daemon
