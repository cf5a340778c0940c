// SPDX-License-Identifier: Apache-2.0
#include "client/run_flow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include "absl/time/clock.h"
#include "base/file.h"
#include "base/protocol.h"
#include "base/sha256.h"
#include "client/bundle/upload.h"
#include "client/command.h"
#include "client/run_reporter.h"
#include "client/testing/fake_daemon.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// Records the calls of the flow, and waits for them.
class Recorder : public RunObserver {
 public:
  void Submitted(size_t, const std::string& id) override { Add("submitted " + id); }
  void Event(const std::string& id, const v1::RunEvent& e) override {
    Add(id + " " + e.progress().text());
  }
  void Finished(const v1::RunRecord& r) override {
    Add("finished " + r.run_id() + " " + v1::Verdict_Name(r.verdict()));
  }
  void Known(size_t, const v1::RunRecord& r) override {
    Add("known " + r.known_from() + " " + v1::Verdict_Name(r.verdict()) + " " + r.reproduce());
  }
  void Failed(const std::string& id, const absl::Status& s) override {
    Add("failed " + id + " " + std::string(s.message()));
  }
  void Reconnecting(const absl::Status&) override { Add("reconnecting"); }

  std::vector<std::string> lines() const {
    base::MutexLock lock(&mutex_);
    return lines_;
  }
  size_t Count(const std::string& part) const {
    base::MutexLock lock(&mutex_);
    return CountLocked(part);
  }
  bool WaitFor(const std::string& part, size_t times = 1) {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    base::MutexLock lock(&mutex_);
    while (CountLocked(part) < times && absl::Now() < deadline)
      changed_.WaitFor(&mutex_, absl::Milliseconds(100));
    return CountLocked(part) >= times;
  }

 private:
  size_t CountLocked(const std::string& part) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::count_if(lines_.begin(), lines_.end(),
                         [&](const auto& l) { return l.find(part) != std::string::npos; });
  }
  void Add(std::string line) {
    base::MutexLock lock(&mutex_);
    lines_.push_back(std::move(line));
    changed_.SignalAll();
  }
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

class RunFlowTest : public ::testing::Test {
 protected:
  RunFlowTest() : dir_(*base::TempDir::Make("flow")), socket_(dir_.path() + "/d.sock") {
    daemon_ = std::make_unique<FakeDaemon>(&service_, socket_);
    options_.first_backoff = absl::Milliseconds(10);
    options_.max_backoff = absl::Milliseconds(50);
  }
  void Open() {
    ConnectOptions connect;
    connect.socket = socket_;
    auto session = Session::Open([connect] { return Connect(connect); });
    ASSERT_TRUE(session.ok()) << session.status();
    session_ = *std::move(session);
  }
  void ExpectAWholeRun() {
    Open();
    RunFlow flow(session_.get(), &recorder_, options_);
    flow.Submit({v1::RunSpec()});
    ASSERT_TRUE(WaitDone(&flow));
    EXPECT_THAT(recorder_.lines(),
                ElementsAre("submitted r-0001", "r-0001 event 0", "r-0001 event 1",
                            "r-0001 event 2", "finished r-0001 PASS"));
  }
  static bool WaitDone(RunFlow* flow) {
    pollfd fd = {flow->done_fd(), POLLIN, 0};
    return poll(&fd, 1, 20000) == 1 && flow->done();
  }

  base::TempDir dir_;
  std::string socket_;
  FakeService service_;
  std::unique_ptr<FakeDaemon> daemon_;
  std::unique_ptr<Session> session_;
  Recorder recorder_;
  RunFlowOptions options_;
};

TEST_F(RunFlowTest, EventsInOrderThenTheRecord) { ExpectAWholeRun(); }

TEST_F(RunFlowTest, ALargeRecordComesInPieces) {
  service_.judge = [](const v1::RunSpec&, v1::RunRecord* record) {
    record->set_scheduler_log(std::string(5 << 20, 'l'));
  };
  ExpectAWholeRun();
}

TEST_F(RunFlowTest, ASubmitWithoutAResponseFails) {
  EXPECT_EQ(RunFlowOptions().submit_timeout, absl::Minutes(2));
  options_.submit_timeout = absl::Milliseconds(100);
  service_.silent = "SubmitRun";
  Open();
  RunFlow flow(session_.get(), &recorder_, options_);
  flow.Submit({v1::RunSpec()});
  ASSERT_TRUE(WaitDone(&flow));
  EXPECT_THAT(recorder_.lines(), ElementsAre(MatchesRegex("failed  .*Deadline.*")));
}

// It is said once, and the runs are still followed.
TEST_F(RunFlowTest, ACancelWithoutAResponseFails) {
  EXPECT_EQ(RunFlowOptions().cancel_timeout, absl::Seconds(30));
  options_.cancel_timeout = absl::Milliseconds(100);
  service_.hold = true;
  service_.silent = "CancelRun";
  Open();
  RunFlow flow(session_.get(), &recorder_, options_);
  flow.Submit({v1::RunSpec(), v1::RunSpec()});
  ASSERT_TRUE(recorder_.WaitFor("event 2", 2));
  flow.Cancel("enough");
  ASSERT_TRUE(recorder_.WaitFor("failed r-0001 cancel of run r-0001: "));
  absl::SleepFor(3 * options_.cancel_timeout);  // Time for a call about the second run.
  service_.Release();
  ASSERT_TRUE(WaitDone(&flow));
  EXPECT_EQ(recorder_.Count("failed"), 1u);
  EXPECT_EQ(recorder_.Count("finished"), 2u);
}

TEST_F(RunFlowTest, ResumesFromTheCursor) {
  service_.break_after = 2;
  Open();
  RunFlow flow(session_.get(), &recorder_, options_);
  flow.Submit({v1::RunSpec()});
  ASSERT_TRUE(WaitDone(&flow));
  EXPECT_THAT(service_.cursors(), ElementsAre(0u, 2u));
  EXPECT_THAT(recorder_.lines(),
              ElementsAre("submitted r-0001", "r-0001 event 0", "r-0001 event 1", "reconnecting",
                          "r-0001 event 2", "finished r-0001 PASS"));
}

TEST_F(RunFlowTest, DaemonRestarted) {
  service_.hold = true;
  Open();
  RunFlow flow(session_.get(), &recorder_, options_);
  flow.Submit({v1::RunSpec()});
  ASSERT_TRUE(recorder_.WaitFor("event 2"));
  daemon_->Stop();
  daemon_ = std::make_unique<FakeDaemon>(&service_, socket_);
  ASSERT_TRUE(recorder_.WaitFor("reconnecting"));
  service_.Release();
  ASSERT_TRUE(WaitDone(&flow));
  EXPECT_EQ(recorder_.Count("finished r-0001 PASS"), 1u);
  EXPECT_EQ(recorder_.Count("event 2"), 1u);
}

TEST_F(RunFlowTest, DaemonGoneForGoodIsBounded) {
  service_.hold = true;
  options_.max_reconnects = 3;
  Open();
  RunFlow flow(session_.get(), &recorder_, options_);
  flow.Submit({v1::RunSpec()});
  ASSERT_TRUE(recorder_.WaitFor("event 2"));
  daemon_->Stop();
  ASSERT_TRUE(WaitDone(&flow));
  EXPECT_EQ(recorder_.Count("reconnecting"), 3u);
  EXPECT_EQ(recorder_.Count("failed r-0001"), 1u);
}

TEST_F(RunFlowTest, CancelWaitsForRecordsAndSubmitsNoMore) {
  service_.hold = true;
  options_.in_flight = 2;
  Open();
  RunFlow flow(session_.get(), &recorder_, options_);
  flow.Submit(std::vector<v1::RunSpec>(5));
  ASSERT_TRUE(recorder_.WaitFor("event 2", 2));
  flow.Cancel("why");
  ASSERT_TRUE(WaitDone(&flow));
  EXPECT_EQ(recorder_.Count("submitted"), 2u);
  EXPECT_EQ(recorder_.Count("ERROR"), 2u);
  EXPECT_EQ(service_.cancelled().at("r-0001"), "why");
}

TEST_F(RunFlowTest, CancelOfAsManyRunsAsCanBeInFlight) {
  service_.hold = true;
  options_.in_flight = 256;
  Open();
  RunFlow flow(session_.get(), &recorder_, options_);
  flow.Submit(std::vector<v1::RunSpec>(300));
  ASSERT_TRUE(recorder_.WaitFor("event 2", 256));
  flow.Cancel("why");
  ASSERT_TRUE(WaitDone(&flow));
  EXPECT_EQ(recorder_.Count("submitted"), 256u);
  EXPECT_EQ(recorder_.Count("ERROR"), 256u);
  EXPECT_EQ(recorder_.Count("failed"), 0u);
  EXPECT_EQ(service_.cancelled().size(), 256u);
}

TEST_F(RunFlowTest, LeaveDoesNotCancel) {
  service_.hold = true;
  Open();
  {
    RunFlow flow(session_.get(), &recorder_, options_);
    flow.Submit({v1::RunSpec()});
    ASSERT_TRUE(recorder_.WaitFor("event 2"));
    flow.Leave();
    ASSERT_TRUE(WaitDone(&flow));
  }
  EXPECT_TRUE(service_.cancelled().empty());
  EXPECT_EQ(recorder_.Count("finished"), 0u);
  EXPECT_EQ(recorder_.Count("failed"), 0u);
}

TEST_F(RunFlowTest, FollowAndRefusedSubmit) {
  Open();
  {
    RunFlow flow(session_.get(), &recorder_, options_);
    flow.Follow({"r-0007"});
    ASSERT_TRUE(WaitDone(&flow));
  }
  EXPECT_EQ(recorder_.Count("finished r-0007"), 1u);
  service_.submit_status = {grpc::StatusCode::NOT_FOUND, "no kernel found"};
  RunFlow flow(session_.get(), &recorder_, options_);
  flow.Submit({v1::RunSpec()});
  ASSERT_TRUE(WaitDone(&flow));
  EXPECT_EQ(recorder_.Count("failed  no kernel found"), 1u);
}

TEST_F(RunFlowTest, UploadSendsWhatIsMissingOnce) {
  Open();
  const std::string content(3 << 20, 'k');
  const std::string path = dir_.path() + "/blob", empty = dir_.path() + "/empty";
  ASSERT_TRUE(base::WriteFileAtomic(path, content).ok());
  ASSERT_TRUE(base::WriteFileAtomic(empty, "").ok());
  std::vector<BundleFile> files(3);
  for (BundleFile& file : files) {
    file.path = path;
    file.ref.set_sha256(base::Sha256Hex(content));
    file.ref.set_size(content.size());
  }
  files[2].path = empty;
  files[2].ref.set_sha256(base::Sha256Hex(""));
  files[2].ref.set_size(0);
  uint64_t sent = 0;
  const auto progress = [&](uint64_t s, uint64_t total) {
    sent = s;
    EXPECT_EQ(total, content.size());
  };
  ASSERT_TRUE(UploadFiles(*session_, files, progress).ok());
  EXPECT_EQ(sent, content.size());
  EXPECT_EQ(service_.blobs().at(base::Sha256Hex(content)), content);
  sent = 0;
  ASSERT_TRUE(UploadFiles(*session_, files, progress).ok());
  EXPECT_EQ(sent, 0u);
  files[0].ref.set_sha256(std::string(64, 'a'));
  files[0].ref.set_size(content.size() + 1);
  EXPECT_THAT(std::string(UploadFiles(*session_, files, [](uint64_t, uint64_t) {}).message()),
              HasSubstr("became shorter"));
}

TEST_F(RunFlowTest, HandshakeOfAnotherVersion) {
  service_.protocol_version = base::kProtocolVersion + 1;
  ConnectOptions connect;
  connect.socket = socket_;
  const absl::Status status = Connect(connect).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("update ktstrctl"));
}

// The whole program against the fake daemon: exit code, stdout and stderr.
class MainTest : public RunFlowTest {
 protected:
  int Run(std::vector<std::string> args) {
    args.insert(args.begin(), {"ktstrctl", "--socket", socket_});
    std::vector<const char*> argv;
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int code = Main(static_cast<int>(argv.size()), argv.data());
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return code;
  }
  std::string out_, err_;
};

TEST_F(MainTest, JsonIsAllThatIsOnStdout) {
  EXPECT_EQ(Run({"run", "steady", "--json", "--repeat", "2"}), 0) << err_;
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 2);
  EXPECT_EQ(out_.substr(0, 1), "{");
  EXPECT_THAT(out_, HasSubstr("\"verdict\":\"PASS\""));
  EXPECT_THAT(err_, HasSubstr("2 passed, 0 failed, 0 skipped in "));
  EXPECT_THAT(err_, HasSubstr("r-0001 event 0"));
}

TEST_F(MainTest, QuietSaysOnlyResults) {
  EXPECT_EQ(Run({"run", "steady", "-q"}), 0);
  EXPECT_THAT(out_, HasSubstr("1 passed"));
  EXPECT_EQ(err_, "");
}

TEST_F(MainTest, DetachPrintsTheId) {
  EXPECT_EQ(Run({"run", "steady", "--detach", "-q"}), 0) << err_;
  EXPECT_EQ(out_, "r-0001\n");
  EXPECT_FALSE(service_.specs()[0].cancel_when_unwatched());
}

TEST_F(MainTest, KtapJunitSidecar) {
  service_.verdict = v1::FAIL;
  const std::string junit = dir_.path() + "/j.xml";
  EXPECT_EQ(Run({"run", "steady", "--ktap", "--junit", junit, "-o", dir_.path() + "/records"}), 1)
      << err_;
  EXPECT_EQ(out_.substr(0, out_.find("not ok")), "KTAP version 1\n1..1\n");
  EXPECT_THAT(*base::ReadFile(junit), HasSubstr("failures=\"1\""));
  const auto records = *base::ListDir(dir_.path() + "/records");
  ASSERT_EQ(records.size(), 1u);
  EXPECT_THAT(records[0], MatchesRegex("steady-.*-s[0-9]+-[0-9a-f]+\\.ktstr\\.json"));
}

TEST_F(MainTest, ExitCodesOfRefusals) {
  service_.submit_status = {grpc::StatusCode::NOT_FOUND, "no kernel found"};
  EXPECT_EQ(Run({"run", "steady"}), 69);
  EXPECT_THAT(err_, HasSubstr("ktstrctl: no kernel found\n"));
  service_.submit_status = {grpc::StatusCode::RESOURCE_EXHAUSTED, "queue full"};
  EXPECT_EQ(Run({"run", "steady"}), 75);
  service_.submit_status = {grpc::StatusCode::INTERNAL, "broken"};
  EXPECT_EQ(Run({"run", "steady"}), 70);
  service_.submit_status = {grpc::StatusCode::INVALID_ARGUMENT, "field"};
  EXPECT_EQ(Run({"run", "steady"}), 65);
}

TEST_F(MainTest, KernelWithoutItsConfigurationIsReported) {
  const std::string image = dir_.path() + "/bzImage";
  ASSERT_TRUE(base::WriteFileAtomic(image, "k").ok());
  service_.kernel.mutable_metadata()->set_release("7.0.4+deb13-cloud-amd64");
  for (const bool has_config : {false, true}) {
    service_.kernel.set_has_config(has_config);
    for (const std::vector<std::string>& args :
         {std::vector<std::string>{"kernel", "fetch", "deb:linux-binary-7.0.4+deb13-cloud-amd64"},
          std::vector<std::string>{"kernel", "import", image}}) {
      EXPECT_EQ(Run(args), 0) << err_;
      EXPECT_EQ(err_.find("warning: kernel 7.0.4+deb13-cloud-amd64 is cached without its "
                          "configuration: the guest has no /boot/config-7.0.4+deb13-cloud-amd64") !=
                    std::string::npos,
                !has_config)
          << args[1] << ": " << err_;
    }
  }
}

TEST_F(MainTest, SkipAndInconclusive) {
  service_.verdict = v1::SKIP;
  EXPECT_EQ(Run({"run", "steady"}), 0);
  EXPECT_EQ(Run({"run", "steady", "--skip-is-failure"}), 1);
  service_.verdict = v1::INCONCLUSIVE;
  EXPECT_EQ(Run({"run", "steady"}), 2);
  EXPECT_EQ(Run({"run", "steady", "--inconclusive-is-failure"}), 1);
  service_.verdict = v1::ERROR;
  EXPECT_EQ(Run({"run", "steady"}), 70);
}

TEST_F(MainTest, UnwritableSidecarIsReported) {
  EXPECT_EQ(Run({"run", "steady", "-o", "/proc/none"}), 69) << err_;
  EXPECT_THAT(err_, HasSubstr("/proc/none"));
}

}  // namespace
}  // namespace ktstr::client
