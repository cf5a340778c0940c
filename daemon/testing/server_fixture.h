// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the whole daemon share: a daemon on a socket of its own, in this process or
// (StartDaemon) in one of its own, with the fake VM process.

#ifndef KTSTR_DAEMON_TESTING_SERVER_FIXTURE_H_
#define KTSTR_DAEMON_TESTING_SERVER_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <string>
#include <utility>

#include "base/subprocess.h"
#include "daemon/testing/test_server.h"

namespace ktstr::daemon {

class ServerTest : public testing::Test {
 protected:
  void Start() {
    const absl::Status started = server_.Start();
    ASSERT_TRUE(started.ok()) << started;
  }
  v1::RunRecord RunOf(const std::string& mode) {
    TestClient client = server_.Connect();
    std::string id;
    const grpc::Status status = client.Submit(FakeSpec(mode), &id);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return client.Finish(id);
  }
  static std::string KindOf(const v1::RunRecord& record) {
    return record.findings().empty() ? "" : record.findings(0).kind();
  }
  // In a process of its own.
  absl::StatusOr<base::Child> StartDaemon(int log_fd, std::map<int, uint64_t> rlimits) {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) return absl::InternalError("pipe");
    const base::UniqueFd from(ready[0]);
    base::UniqueFd to(ready[1]);
    base::SpawnOptions spawn;
    spawn.argv = {KTSTR_TEST_DAEMON, server_.options().socket, server_.options().cache_dir,
                  KTSTR_FAKE_VM};
    spawn.fds = {{2, log_fd}, {3, to.get()}};
    spawn.rlimits = std::move(rlimits);
    auto child = base::Spawn(spawn);
    to.Reset();
    char line[6];
    const bool is_ready = read(from.get(), line, sizeof(line)) == sizeof(line);
    if (child.ok() && !is_ready) return absl::InternalError("the daemon did not get ready");
    return child;
  }
  TestServer server_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_TESTING_SERVER_FIXTURE_H_
