// SPDX-License-Identifier: Apache-2.0
#include "client/connect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

#include "base/file.h"
#include "client/pieces.h"
#include "client/private_daemon.h"
#include "client/testing/fake_daemon.h"

namespace ktstr::client {
namespace {

using ::testing::HasSubstr;

class PrivateTest : public ::testing::Test {
 protected:
  PrivateTest() : dir_(*base::TempDir::Make("conn")) {
    options_.system_socket = dir_.path() + "/system.sock";
    options_.private_socket = dir_.path() + "/p/ktstrd.sock";
  }
  // A program in place of ktstrd. It gets --private --socket PATH --ready-fd 3.
  void Program(const std::string& script) {
    options_.daemon_program = dir_.path() + "/ktstrd";
    ASSERT_TRUE(base::WriteFileAtomic(options_.daemon_program, "#!/bin/sh\n" + script, 0755).ok());
  }
  std::string Error() { return std::string(Connect(options_).status().message()); }
  base::TempDir dir_;
  ConnectOptions options_;
};

TEST_F(PrivateTest, SystemSocketFirst) {
  FakeService service;
  FakeDaemon daemon(&service, options_.system_socket);
  const auto connection = Connect(options_);
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_EQ((*connection)->socket(), options_.system_socket);
}

TEST_F(PrivateTest, RunningPrivateDaemonIsUsed) {
  ASSERT_EQ(mkdir((dir_.path() + "/p").c_str(), 0700), 0);
  FakeService service;
  FakeDaemon daemon(&service, options_.private_socket);
  const auto connection = Connect(options_);
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_EQ((*connection)->socket(), options_.private_socket);
}

// The size of a run with 4096 workers on 252 CPUs. No message is above gRPC's own limit of 4 MiB.
TEST_F(PrivateTest, LargeAnswersArrive) {
  FakeService service;
  service.judge = [](const v1::RunSpec&, v1::RunRecord* record) {
    record->set_scheduler_log(std::string(size_t{12} << 20, 'l'));
  };
  service.observe = [](const v1::RunSpec&, v1::RunObservations* observations) {
    for (int i = 0; i < 1024; ++i) {
      observations->add_observations()->mutable_scheduler_output()->set_data(
          std::string(size_t{40} << 10, 'o'));
    }
  };
  FakeDaemon daemon(&service, options_.system_socket);
  auto connection = Connect(options_);
  ASSERT_TRUE(connection.ok()) << connection.status();
  v1::SubmitRunResponse submitted;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(
        (*connection)->stub()->SubmitRun(&context, v1::SubmitRunRequest(), &submitted).ok());
  }
  v1::GetRunRequest request;
  request.set_run_id(submitted.run_id());
  request.set_with_observations(true);
  v1::GetRunResponse response;
  const auto session = *Session::Open([&] { return connection; });
  const absl::Status status = GetRun(*session, request, &response);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(response.record().scheduler_log().size(), size_t{12} << 20);
  EXPECT_EQ(response.observations().observations_size(), 1024);
}

TEST_F(PrivateTest, DaemonThatSaysWhy) {
  Program("echo \"error: HOME is unset; cannot resolve cache directory.\" >&3; exit 1\n");
  const absl::Status status = Connect(options_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "HOME is unset; cannot resolve cache directory.");
}

TEST_F(PrivateTest, DaemonThatDiesWithWords) {
  Program("echo old words >&2; exit 3\n");
  Error();
  Program("echo \"$1 $2 $4 $5\"; echo cannot go on >&2; exit 3\n");
  EXPECT_THAT(
      Error(),
      HasSubstr(
          "exited with 3 before it served: --private --socket --ready-fd 3\ncannot go on (log: "));
  EXPECT_THAT(Error(), ::testing::Not(HasSubstr("old words")));
  Program("kill -9 $$\n");
  EXPECT_THAT(Error(), HasSubstr("killed by signal 9"));
}

TEST_F(PrivateTest, DaemonThatCannotBeStarted) {
  options_.daemon_program = dir_.path() + "/none";
  EXPECT_THAT(Error(), HasSubstr("cannot start ktstrd"));
}

TEST_F(PrivateTest, ReadyWithoutASocket) {
  Program("echo ready >&3\n");
  EXPECT_THAT(Error(), HasSubstr("cannot be reached"));
}

TEST_F(PrivateTest, SlowStartCanBeInterrupted) {
  Program("exec sleep 30\n");
  base::UniqueFd interrupt(eventfd(1, EFD_CLOEXEC));
  options_.interrupt_fd = interrupt.get();
  EXPECT_EQ(Connect(options_).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(PrivateTest, StartIsBounded) {
  Program("exec sleep 30\n");
  ASSERT_TRUE(PrepareSocketDirectory(dir_.path() + "/p", geteuid()).ok());
  DaemonStart start;
  start.socket = options_.private_socket;
  start.program = options_.daemon_program;
  start.timeout = absl::Milliseconds(100);
  EXPECT_EQ(StartDaemon(start).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(PrivateTest, DaemonOfTheSameCacheIsUsed) {
  FakeService service;
  const std::string elsewhere = dir_.path() + "/elsewhere.sock";
  FakeDaemon daemon(&service, elsewhere);
  Program("echo \"elsewhere: " + elsewhere + "\" >&3\n");
  const auto connection = Connect(options_);
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_EQ((*connection)->socket(), elsewhere);
}

TEST_F(PrivateTest, DaemonOfTheSameCacheThatIsOutOfReach) {
  Program("echo \"elsewhere: " + dir_.path() + "/none.sock\" >&3\n");
  EXPECT_THAT(Error(), HasSubstr("none.sock: the socket of the ktstrd that uses your cache"));
  ASSERT_TRUE(base::WriteFileAtomic(dir_.path() + "/file.sock", "x").ok());
  Program("echo \"elsewhere: " + dir_.path() + "/file.sock\" >&3\n");
  EXPECT_THAT(Error(), HasSubstr("it is no socket"));
}

// A stopped daemon: the kernel takes connections, but nobody responds.
TEST_F(PrivateTest, DaemonThatHangsCanBeInterrupted) {
  const std::string path = dir_.path() + "/hangs.sock";
  const base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof(address.sun_path), "%s", path.c_str());
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(fd.get(), 0), 0);
  const base::UniqueFd interrupt(eventfd(1, EFD_CLOEXEC));
  options_.socket = path;
  options_.interrupt_fd = interrupt.get();
  EXPECT_EQ(Connect(options_).status().code(), absl::StatusCode::kCancelled);  // In its handshake.
  // The connection fills its backlog.
  EXPECT_EQ(ConnectSocket(path, interrupt.get()).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(PrivateTest, StaleSocketIsNoDaemon) {
  const base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof(address.sun_path), "%s/stale.sock", dir_.path().c_str());
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const absl::Status status = ConnectSocket(address.sun_path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no daemon listens there"));
  options_.socket = address.sun_path;
  EXPECT_THAT(Error(), HasSubstr("leave --socket and KTSTR_SOCKET out"));
}

// A killed daemon takes one more connection before it ends: the client starts another one.
TEST_F(PrivateTest, DaemonThatIsEndingIsReplaced) {
  ASSERT_EQ(mkdir((dir_.path() + "/p").c_str(), 0700), 0);
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof(address.sun_path), "%s", options_.private_socket.c_str());
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(fd.get(), 4), 0);
  std::thread ending([&fd] {
    base::UniqueFd(accept(fd.get(), nullptr, nullptr)).Reset();
    fd.Reset();
  });
  Program("echo \"error: the next one was started\" >&3; exit 1\n");
  EXPECT_THAT(Error(), HasSubstr("the next one was started"));
  ending.join();
}

TEST_F(PrivateTest, DirectoryOfTheSocket) {
  const std::string directory = dir_.path() + "/d";
  ASSERT_TRUE(PrepareSocketDirectory(directory, geteuid()).ok());
  struct stat st;
  ASSERT_EQ(stat(directory.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
  EXPECT_THAT(std::string(PrepareSocketDirectory(directory, geteuid() + 1).message()),
              HasSubstr("belongs to user"));
  ASSERT_EQ(chmod(directory.c_str(), 0750), 0);
  EXPECT_THAT(std::string(PrepareSocketDirectory(directory, geteuid()).message()),
              HasSubstr("has mode 0750"));
  ASSERT_EQ(symlink("/tmp", (dir_.path() + "/l").c_str()), 0);
  EXPECT_THAT(std::string(PrepareSocketDirectory(dir_.path() + "/l", geteuid()).message()),
              HasSubstr("is not a directory"));
  EXPECT_FALSE(PrepareSocketDirectory(dir_.path() + "/no/such", geteuid()).ok());
}

TEST(ConnectSocket, PathTooLong) {
  EXPECT_THAT(std::string(ConnectSocket("/" + std::string(200, 'x')).status().message()),
              HasSubstr("at most 107"));
}

}  // namespace
}  // namespace ktstr::client
