// SPDX-License-Identifier: Apache-2.0
//
// Ctrl-C during a call that the daemon never answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "client/call.h"
#include "client/testing/command_test.h"

namespace ktstr::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class InterruptTest : public CommandTest {
 protected:
  // The exit code of a command that is interrupted once the daemon has got this call.
  int RunInterrupted(const std::string& call, const std::vector<std::string>& args) {
    service_.silent = call;
    std::thread user([this, &call] {
      EXPECT_TRUE(service_.WaitForSilentCall()) << call;
      kill(getpid(), SIGINT);
    });
    const int code = Run(args);
    user.join();
    service_.silent.clear();
    return code;
  }
};

TEST_F(InterruptTest, EveryCommandEndsWith130) {
  // An image to send: the fake does not look into it.
  const std::string image = dir_.path() + "/bzImage";
  ASSERT_TRUE(base::WriteFileAtomic(image, std::string(4 << 20, 'k')).ok());
  struct Case {
    const char* call;
    std::vector<std::string> args;
  };
  for (const Case& c : std::vector<Case>{
           {"Handshake", {"run", "steady"}},
           {"Handshake", {"results", "list"}},
           {"FindMissingBlobs", {"run", "steady", "--scheduler", "/bin/true"}},
           {"PutBlob", {"run", "steady", "--scheduler", "/bin/true"}},
           {"PutBlob", {"explore", "steady", "--seeds", "1..3", "--scheduler", "/bin/true"}},
           {"SubmitRun", {"run", "steady", "--detach"}},
           {"GetRun", {"minimize", "r-0001"}},
           {"GetRun", {"explain", "r-0001"}},
           {"GetRun", {"results", "show", "r-0001"}},
           {"CancelRun", {"cancel", "r-0001"}},
           {"ListKernels", {"kernel", "list"}},
           {"ListKernels", {"list", "kernels"}},
           {"ImportKernel", {"kernel", "import", image}},
           {"FetchKernel", {"kernel", "fetch", "deb:linux-image-amd64"}}}) {
    EXPECT_EQ(RunInterrupted(c.call, c.args), kInterrupted) << c.call << " " << c.args[0] << err_;
    EXPECT_THAT(err_, HasSubstr("ktstrctl: interrupted\n")) << c.call;
    EXPECT_EQ(out_, "") << c.call;
  }
  // The signal of one command does not reach the next one.
  EXPECT_EQ(Run({"run", "steady"}), kOk) << err_;
}

TEST_F(InterruptTest, DetachedRunsThatWereSubmittedAreCancelled) {
  service_.silent_after = 2;
  EXPECT_EQ(RunInterrupted("SubmitRun", {"run", "steady", "--detach", "--repeat", "5"}),
            kInterrupted);
  EXPECT_EQ(out_, "r-0001\nr-0002\n");
  EXPECT_THAT(err_, HasSubstr("cancelling the runs submitted so far: 2"));
  EXPECT_THAT(service_.cancelled(), SizeIs(2));
}

TEST_F(InterruptTest, AnImportShowsWhatItWaitsFor) {
  ASSERT_TRUE(base::WriteFileAtomic(dir_.path() + "/a.deb", "content").ok());
  service_.import_lines = {"waiting for the import of b.deb by anna",
                           "unpacking a.deb: 0 of 1 MiB"};
  EXPECT_EQ(Run({"kernel", "import", dir_.path() + "/a.deb"}), kOk) << err_;
  EXPECT_THAT(err_, HasSubstr("waiting for the import of b.deb by anna\n"
                              "unpacking a.deb: 0 of 1 MiB\n"));
}

// The daemon may give less than was asked for.
TEST_F(InterruptTest, ListsAreReadPageByPage) {
  for (int i = 0; i < 7; ++i) ASSERT_EQ(Run({"run", "steady", "--detach"}), kOk) << err_;
  service_.page_size = 3;
  ASSERT_EQ(Run({"--json", "results", "list"}), kOk) << err_;
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 7);
  EXPECT_THAT(out_, HasSubstr("r-0001"));
  ASSERT_EQ(Run({"--json", "results", "list", "--limit", "4"}), kOk) << err_;
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 4);
  EXPECT_THAT(out_, Not(HasSubstr("r-0003")));
}

TEST(GuardedCall, EndsWhenNothingComes) {
  const base::TempDir dir = *base::TempDir::Make("call");
  FakeService service;
  service.silent = "GetRun";
  FakeDaemon daemon(&service, dir.path() + "/d.sock");
  ConnectOptions options;
  options.socket = dir.path() + "/d.sock";
  const auto connection = Connect(options);
  ASSERT_TRUE(connection.ok()) << connection.status();
  GuardedCall call(-1, absl::Milliseconds(50));
  const auto reader = (*connection)->stub()->GetRun(call.context(), v1::GetRunRequest());
  v1::Piece piece;
  EXPECT_FALSE(reader->Read(&piece));
  const absl::Status status = call.Finish(reader->Finish());
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("did not respond for 50ms"));
}

}  // namespace
}  // namespace ktstr::client
