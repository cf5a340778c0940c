// SPDX-License-Identifier: Apache-2.0
// Known runs through a real daemon and a fake VM: which runs have a fingerprint, and which submits
// get an earlier run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "base/file.h"
#include "base/sha256.h"
#include "daemon/daemon.h"
#include "daemon/testing/test_server.h"

namespace ktstr::daemon {
namespace {

class ReuseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_.options().config.set_qemu_path(KTSTR_FAKE_QEMU);
    server_.options().config.set_prepared_vms(0);
    ASSERT_TRUE(server_.Start().ok());
  }
  void Restart() {
    server_.Stop();
    ASSERT_TRUE(server_.Start().ok());
  }
  v1::SubmitRunResponse Submit(const v1::RunSpec& spec, bool reuse = true) {
    TestClient client = server_.Connect();
    grpc::ClientContext context;
    v1::SubmitRunRequest request;
    *request.mutable_spec() = spec;
    request.set_reuse(reuse);
    v1::SubmitRunResponse response;
    const grpc::Status status = client->SubmitRun(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  // A run that is made; its record.
  v1::RunRecord Make(const v1::RunSpec& spec) {
    return server_.Connect().Finish(Submit(spec, /*reuse=*/false).run_id());
  }
  // The id of the earlier run; empty: a run was made, and has ended.
  std::string Known(const v1::RunSpec& spec) {
    const v1::SubmitRunResponse response = Submit(spec);
    if (response.known()) return response.run_id();
    server_.Connect().Finish(response.run_id());
    return "";
  }
  // With the scheduler "scx_fake", from an attached snapshot.
  v1::RunSpec Attached(const std::string& mode) {
    const std::string file = "#!fake 1";
    EXPECT_TRUE(server_.Connect().Put(base::Sha256Hex(file), file).ok());
    v1::RunSpec spec = FakeSpec("pass");
    AddScheduler(file, &spec);
    spec.mutable_scenario()->mutable_scheduler()->add_args("fake-" + mode);
    spec.set_warm(v1::WARM_ATTACHED);
    return spec;
  }
  TestServer server_;
};

TEST_F(ReuseTest, SecondRunIsTheFirst) {
  const v1::SubmitRunResponse first = Submit(FakeSpec("pass"));
  EXPECT_FALSE(first.known());
  const v1::RunRecord record = server_.Connect().Finish(first.run_id());
  EXPECT_TRUE(base::IsSha256Hex(record.fingerprint()));
  EXPECT_EQ(record.known_from(), "");
  v1::RunSpec same = FakeSpec("pass");
  same.set_project_commit("fffffff");
  same.set_cancel_when_unwatched(true);
  same.set_timeout_ms(99'000);
  same.mutable_reproduction()->set_scenario("elsewhere");
  EXPECT_EQ(Known(same), first.run_id());
  // Its whole record, also over GetRun.
  EXPECT_EQ(server_.Connect().Finish(first.run_id()).SerializeAsString(),
            record.SerializeAsString());
  // Nothing was made.
  grpc::ClientContext context;
  v1::ListRunsResponse runs;
  ASSERT_TRUE(server_.Connect()->ListRuns(&context, v1::ListRunsRequest(), &runs).ok());
  EXPECT_EQ(runs.runs_size(), 1);
  // Who does not ask gets a run, which is then the known one.
  const v1::RunRecord fresh = Make(FakeSpec("pass"));
  EXPECT_EQ(fresh.run_id(), "r-0002");
  EXPECT_EQ(fresh.fingerprint(), record.fingerprint());
  EXPECT_EQ(Known(FakeSpec("pass")), "r-0002");
  Restart();
  EXPECT_EQ(Known(FakeSpec("pass")), "r-0002");
}

TEST_F(ReuseTest, AnotherInputIsAnotherRun) {
  Make(FakeSpec("pass"));
  v1::RunSpec spec = FakeSpec("pass");
  spec.mutable_scenario()->set_seed(7);
  EXPECT_EQ(Known(spec), "");
  spec = FakeSpec("pass");
  spec.mutable_scenario()->set_memory_mb(2048);
  EXPECT_EQ(Known(spec), "");
  spec = FakeSpec("pass");
  spec.set_dmesg(true);
  EXPECT_EQ(Known(spec), "");
  spec = FakeSpec("pass");
  spec.set_vcpu_turn_us(50);
  EXPECT_EQ(Known(spec), "");
  spec = FakeSpec("pass");
  spec.mutable_scenario()->set_vcpu_mips(250);
  EXPECT_EQ(Known(spec), "");
  spec = FakeSpec("pass");
  spec.set_warm(v1::WARM_OFF);
  EXPECT_EQ(Known(spec), "") << "a cold boot is another run";
  EXPECT_EQ(Known(spec), "r-0007");
  EXPECT_EQ(Known(FakeSpec("pass")), "r-0001");
}

TEST_F(ReuseTest, AFailureIsKnownAnErrorIsNot) {
  const v1::RunRecord failed = Make(FakeSpec("panic"));
  EXPECT_EQ(failed.verdict(), v1::FAIL);
  EXPECT_EQ(Known(FakeSpec("panic")), failed.run_id());
  for (const char* mode : {"leave", "garbage"}) {
    const v1::RunRecord record = Make(FakeSpec(mode));
    EXPECT_EQ(record.verdict(), v1::ERROR) << mode;
    EXPECT_EQ(record.fingerprint(), "") << mode;
    EXPECT_EQ(Known(FakeSpec(mode)), "") << mode;
  }
}

TEST_F(ReuseTest, ARunThatIsNotExactIsNotKnown) {
  const v1::RunRecord record = Make(FakeSpec("unbounded"));
  EXPECT_EQ(record.verdict(), v1::PASS);
  EXPECT_EQ(record.fingerprint(), "");
  EXPECT_EQ(Known(FakeSpec("unbounded")), "");
}

TEST_F(ReuseTest, ACancelledRunIsNotKnown) {
  const std::string id = Submit(FakeSpec("hang")).run_id();
  TestClient client = server_.Connect();
  ASSERT_NE(client.VmPid(id), 0);
  EXPECT_FALSE(Submit(FakeSpec("pass")).known());
  grpc::ClientContext context;
  v1::CancelRunRequest request;
  v1::CancelRunResponse response;
  request.set_run_id(id);
  ASSERT_TRUE(client->CancelRun(&context, request, &response).ok());
  EXPECT_EQ(client.Finish(id).fingerprint(), "");
}

TEST_F(ReuseTest, APrunedRunIsNotKnown) {
  server_.Stop();
  server_.options().config.set_max_kept_runs(1);
  ASSERT_TRUE(server_.Start().ok());
  const std::string first = Make(FakeSpec("pass")).run_id();
  EXPECT_EQ(Known(FakeSpec("pass")), first);
  Make(FakeSpec("panic"));
  EXPECT_EQ(Known(FakeSpec("pass")), "");
}

TEST_F(ReuseTest, AnotherUsersRunIsNotKnown) {
  Make(FakeSpec("pass"));
  server_.Stop();
  const auto daemon = Daemon::Create(server_.options());
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  v1::SubmitRunRequest request;
  *request.mutable_spec() = FakeSpec("pass");
  request.set_reuse(true);
  EXPECT_TRUE((*daemon)->SubmitRun(CallerOf(getuid()), request)->known());
  const Caller other = {.uid = getuid() + 1, .user = "other", .admin = true};
  const auto submitted = (*daemon)->SubmitRun(other, request);
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  EXPECT_FALSE(submitted->known());
}

// A run from an attached snapshot, also where the scheduler's own end keeps it from that start; but
// not where the host does.
TEST_F(ReuseTest, RunsThatAskForAnAttachedStart) {
  for (const char* mode : {"pass", "falls", "noattach"}) {
    const v1::RunRecord record = Make(Attached(mode));
    EXPECT_EQ(record.timings().start(),
              std::string(mode) == "pass" ? v1::Timings::ATTACHED : v1::Timings::RESTORE);
    EXPECT_EQ(Known(Attached(mode)), record.run_id()) << mode;
    v1::RunSpec boot = Attached(mode);
    boot.set_warm(v1::WARM_BOOT);
    EXPECT_EQ(Known(boot), "") << mode;
  }
  const v1::RunRecord record = Make(Attached("hostfails"));
  EXPECT_NE(record.fingerprint(), "");
  EXPECT_EQ(Known(Attached("hostfails")), "");
  v1::RunSpec boot = Attached("hostfails");
  boot.set_warm(v1::WARM_BOOT);
  EXPECT_NE(Known(boot), "") << "it started like this one";
}

// The host kept it from its start: the run is another one, and has its own fingerprint.
TEST_F(ReuseTest, AMachineThatCannotBeFrozenIsACold) {
  const v1::RunRecord record = Make(FakeSpec("nosnapshot"));
  EXPECT_EQ(record.timings().start(), v1::Timings::BOOT);
  EXPECT_EQ(Known(FakeSpec("nosnapshot")), "");
}

}  // namespace
}  // namespace ktstr::daemon
