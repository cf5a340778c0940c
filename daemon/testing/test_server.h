// SPDX-License-Identifier: Apache-2.0
//
// A real daemon in this process, on a temporary socket and cache with one made-up kernel, and a
// real client. One thread.

#ifndef KTSTR_DAEMON_TESTING_TEST_SERVER_H_
#define KTSTR_DAEMON_TESTING_TEST_SERVER_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "daemon/server.h"
#include "ktstr/v1/service.grpc.pb.h"

namespace ktstr::daemon {

// A connection of its own and the calls of a client.
class TestClient {
 public:
  explicit TestClient(const std::string& socket);
  v1::Ktstr::Stub* operator->() { return stub_.get(); }
  grpc::Status Submit(const v1::RunSpec& spec, std::string* id);
  // Watches until `stop` returns true, the stream ends or 30 s have passed. Fills `events`.
  grpc::Status Watch(const std::string& id, uint64_t cursor, std::vector<v1::RunEvent>* events,
                     const std::function<bool(const v1::RunEvent&)>& stop = nullptr);
  // Watches to the end; the record is empty when there was none.
  v1::RunRecord Finish(const std::string& id);
  // GetRun, put together.
  grpc::Status Get(const v1::GetRunRequest& request, v1::GetRunResponse* response);
  // Watches until the fake VM is in its first step; its pid.
  int VmPid(const std::string& id);
  grpc::Status Put(const std::string& sha256, const std::string& content);

 private:
  std::unique_ptr<v1::Ktstr::Stub> stub_;
};

// A scenario of one worker for fake_vm.cc's `mode`.
v1::RunSpec FakeSpec(const std::string& mode);
// Adds the scheduler "scx_fake" with this content; the content must be put separately.
void AddScheduler(const std::string& content, v1::RunSpec* spec);
// Writes a made-up kernel, of version 7.3.4, into a cache directory.
void WriteFakeKernel(const std::string& cache_dir, const std::string& key = "image-fake-x86_64",
                     const std::string& release = "7.3.4-fake", int64_t created_unix_s = 1);
// Waits up to 20 s for the process to be gone.
bool WaitGone(int pid);

class TestServer {
 public:
  TestServer();
  ~TestServer() { Stop(); }
  ServerOptions& options() { return options_; }  // Before Start().
  absl::Status Start();
  void Stop();
  // Serve() has returned within 20 s.
  bool WaitEnded() { return EndedWithin(absl::Seconds(20)); }
  bool EndedWithin(absl::Duration time);
  TestClient Connect() const { return TestClient(options_.socket); }
  const std::string& dir() const { return dir_.path(); }

 private:
  base::TempDir dir_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  base::UniqueFd stop_;
  base::UniqueFd ended_;
  std::thread thread_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_TESTING_TEST_SERVER_H_
