// SPDX-License-Identifier: Apache-2.0
// Warm starts through a real daemon and a fake VM: when a snapshot is taken, used, dropped.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "cache/snapshot_store.h"
#include "daemon/testing/test_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scenario/json.h"

namespace ktstr::daemon {
namespace {

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
  spec.set_no_warm(true);
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
    ASSERT_TRUE(store.Store(metadata.identity(), "x", state.get(), {ram.get()}).ok());
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

}  // namespace
}  // namespace ktstr::daemon
