// SPDX-License-Identifier: Apache-2.0
//
// Kernels over the wire: fetches that wait, several kernels of one version, files that come
// together, kernels that somebody else writes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/flock.h"
#include "base/wait_scope.h"
#include "cache/test_kernel.h"
#include "daemon/caller.h"
#include "daemon/daemon.h"
#include "daemon/server.h"
#include "daemon/testing/server_fixture.h"
#include "daemon/testing/test_server.h"

namespace ktstr::daemon {
namespace {

// A fetch that holds its turn for long: somebody else's apt state directory is locked.
TEST_F(ServerTest, AWaitingFetchCanBeCancelled) {
  const std::string apt = server_.options().cache_dir + "/apt";
  ASSERT_TRUE(base::MakeDirs(apt).ok());
  const auto held = base::FileLock::TryAcquire(apt + "/lock", base::LockMode::kExclusive);
  ASSERT_TRUE(held.ok()) << held.status();
  const auto daemon = Daemon::Create(server_.options());
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  struct Fetch {
    std::atomic<bool> waits = false, cancel = false, ended = false;
    absl::Status status;
    std::thread thread;
  };
  Fetch first, second;
  for (Fetch* fetch : {&first, &second}) {
    fetch->thread = std::thread([fetch, &daemon] {
      v1::FetchKernelRequest request;
      request.set_source("deb:linux-image-none");
      fetch->status = (*daemon)
                          ->imports()
                          .Fetch(
                              CallerOf(getuid()), request,
                              [&](const std::string& line) {
                                fetch->waits = line == "waiting for another fetch";
                              },
                              [&] { return fetch->cancel.load(); })
                          .status();
      fetch->ended = true;
    });
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!fetch->waits && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_TRUE(fetch->waits);
  }
  second.cancel = true;
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!second.ended && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_TRUE(second.ended);
  EXPECT_FALSE(first.ended);
  first.cancel = true;
  for (Fetch* fetch : {&first, &second}) {
    fetch->thread.join();
    EXPECT_TRUE(absl::IsCancelled(fetch->status)) << fetch->status;
  }
  (*daemon)->Stop();
}

TEST_F(ServerTest, SeveralKernelsOfOneVersion) {
  WriteFakeKernel(server_.options().cache_dir, "other-x86_64", "7.3.4-other",
                  /*created_unix_s=*/100);
  Start();
  TestClient client = server_.Connect();
  std::string id;
  v1::RunSpec spec = FakeSpec("pass");
  spec.set_kernel("7.3.4");
  const grpc::Status ambiguous = client.Submit(spec, &id);
  EXPECT_EQ(ambiguous.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ambiguous.error_message(),
            "kernel '7.3.4' is ambiguous: 2 cached kernels match. Name one by its release or its "
            "key:\n  release 7.3.4-other  key other-x86_64\n  release 7.3.4-fake  key "
            "image-fake-x86_64");
  spec.set_kernel("7.3.4-other");
  ASSERT_TRUE(client.Submit(spec, &id).ok());
  v1::RunRecord record = client.Finish(id);
  EXPECT_EQ(record.variant().kernel(), "other-x86_64");
  EXPECT_EQ(record.variant().kernel_release(), "7.3.4-other");
  EXPECT_EQ(record.variant().kernel_source(), "image");
  // Without a name: the one that was cached first, not the last one.
  spec.clear_kernel();
  ASSERT_TRUE(client.Submit(spec, &id).ok());
  EXPECT_EQ(client.Finish(id).variant().kernel(), "image-fake-x86_64");
}

TEST_F(ServerTest, KernelFilesThatComeTogether) {
  Start();
  TestClient client = server_.Connect();
  const std::string release = "7.3.5+test-amd64";
  const std::string files[] = {
      cache::MakeDeb({.package = "linux-base-" + release,
                      .files = {{"./boot/config-" + release, "CONFIG_A=y\n"}}}),
      cache::MakeVmlinux({.release = release})};
  for (const bool whole : {false, true}) {
    grpc::ClientContext context;
    v1::ImportKernelResponse response;
    auto writer = client->ImportKernel(&context, &response);
    for (const std::string& file : files) {
      v1::ImportKernelRequest piece;
      piece.mutable_header()->set_file_name("file");
      piece.mutable_header()->set_size(file.size() + (whole ? 0 : 1));
      piece.set_data(file);
      writer->Write(piece);
    }
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    EXPECT_EQ(status.error_code(),
              whole ? grpc::StatusCode::OK : grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    ASSERT_EQ(response.kernels_size(), whole ? 1 : 0);
    if (!whole) continue;
    EXPECT_TRUE(response.kernels(0).entry().has_config());
    EXPECT_EQ(response.kernels(0).entry().metadata().owner_uid(), getuid());
  }
}

// Somebody writes the kernel of a run: the run says so, and ends when it is told to.
TEST_F(ServerTest, ARunThatWaitsForItsKernelCanBeCancelled) {
  Start();
  std::string hang, waits;
  {
    TestClient client = server_.Connect();
    ASSERT_TRUE(client.Submit(FakeSpec("hang"), &hang).ok());
    ASSERT_TRUE(client.Submit(FakeSpec("pass"), &waits).ok());
    ASSERT_GT(client.VmPid(hang), 0);
  }
  server_.Stop();
  const auto held = base::FileLock::TryAcquire(
      server_.options().cache_dir + "/.locks/image-fake-x86_64.lock", base::LockMode::kExclusive);
  ASSERT_TRUE(held.ok()) << held.status();
  Start();
  TestClient client = server_.Connect();
  std::vector<v1::RunEvent> events;
  client.Watch(waits, 0, &events, [](const v1::RunEvent& event) {
    return event.progress().text().find("waiting for kernel image-fake-x86_64") == 0;
  });
  ASSERT_FALSE(events.empty());
  EXPECT_TRUE(events.back().has_progress()) << events.back().DebugString();
  grpc::ClientContext context;
  v1::CancelRunRequest request;
  request.set_run_id(waits);
  v1::CancelRunResponse response;
  ASSERT_TRUE(client->CancelRun(&context, request, &response).ok());
  EXPECT_EQ(KindOf(client.Finish(waits)), "CANCELLED");
}

// A submit whose client is gone waits no longer.
TEST_F(ServerTest, ASubmitThatWaitsForItsKernelCanBeCancelled) {
  const auto daemon = Daemon::Create(server_.options());
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  const std::string lock = server_.options().cache_dir + "/.locks/image-fake-x86_64.lock";
  const auto writer = base::FileLock::TryAcquire(lock, base::LockMode::kExclusive);
  ASSERT_TRUE(writer.ok()) << writer.status();
  bool waited = false;
  const base::WaitScope scope([&waited] { return waited; },
                              [&waited](const std::string&) { waited = true; });
  const absl::Status status = (*daemon)->SubmitRun(CallerOf(getuid()), FakeSpec("pass")).status();
  EXPECT_TRUE(waited);
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_TRUE((*daemon)->runs().List(CallerOf(getuid()), 0)->empty());
}

TEST_F(ServerTest, AnImportBelongsToItsCaller) {
  const auto daemon = Daemon::Create(server_.options());
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  const auto upload = (*daemon)->imports().BeginUpload({.uid = 1001, .user = "anna"});
  const std::string file = cache::MakeVmlinux({.release = "7.3.5+test"});
  v1::ImportKernelRequest::ImportHeader header;
  header.set_file_name("vmlinux");
  header.set_size(file.size());
  ASSERT_TRUE(upload->Begin(header).ok());
  ASSERT_TRUE(upload->Append(file).ok());
  const auto imported = upload->Finish();
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(imported->front().entry.metadata().owner_uid(), 1001u);
}

// How many descriptors of this process are of the file.
int OpenCount(const std::string& path) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) == path) ++count;
  }
  return count;
}

bool WaitForOpenCount(const std::string& path, int count) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (OpenCount(path) != count && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  return OpenCount(path) == count;
}

// The same over the wire: the handler lets go of the lock that it waits for.
TEST_F(ServerTest, ASubmitWaitsNoLongerThanItsClient) {
  Start();
  const std::string lock =
      std::filesystem::canonical(server_.options().cache_dir) / ".locks/image-fake-x86_64.lock";
  const auto writer = base::FileLock::TryAcquire(lock, base::LockMode::kExclusive);
  ASSERT_TRUE(writer.ok()) << writer.status();
  TestClient client = server_.Connect();
  grpc::ClientContext context;
  std::thread user([&] {
    EXPECT_TRUE(WaitForOpenCount(lock, 2));
    context.TryCancel();
  });
  v1::SubmitRunRequest request;
  *request.mutable_spec() = FakeSpec("pass");
  v1::SubmitRunResponse response;
  const grpc::Status status = client->SubmitRun(&context, request, &response);
  user.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED) << status.error_message();
  EXPECT_TRUE(WaitForOpenCount(lock, 1)) << OpenCount(lock);
  v1::ListRunsResponse runs;
  grpc::ClientContext list;
  ASSERT_TRUE(client->ListRuns(&list, v1::ListRunsRequest(), &runs).ok());
  EXPECT_EQ(runs.runs_size(), 0);
}

TEST_F(ServerTest, KernelImportChecksWhatComes) {
  Start();
  TestClient client = server_.Connect();
  struct Case {
    std::string name;
    uint64_t size;
    std::string data;
  };
  for (const Case& bad :
       {Case{"", 3, "abc"}, Case{"a/b", 3, "abc"}, Case{"x", 0, ""}, Case{"x", 4, "abc"},
        Case{"x", 2, "abc"}, Case{"x", 3, "abc"}, Case{"x", 2ull << 30, "abc"}}) {
    grpc::ClientContext context;
    v1::ImportKernelResponse response;
    auto writer = client->ImportKernel(&context, &response);
    v1::ImportKernelRequest piece;
    piece.mutable_header()->set_file_name(bad.name);
    piece.mutable_header()->set_size(bad.size);
    piece.set_data(bad.data);
    writer->Write(piece);
    writer->WritesDone();
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT) << bad.name;
  }
  for (const char* source : {"", "deb:", "deb:../x", "http://x", "deb:A B"}) {
    grpc::ClientContext context;
    v1::FetchKernelRequest request;
    request.set_source(source);
    auto reader = client->FetchKernel(&context, request);
    v1::FetchKernelResponse step;
    EXPECT_FALSE(reader->Read(&step));
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT) << source;
  }
  grpc::ClientContext context;
  v1::ListKernelsResponse kernels;
  ASSERT_TRUE(client->ListKernels(&context, v1::ListKernelsRequest(), &kernels).ok());
  ASSERT_EQ(kernels.kernels_size(), 1);
  EXPECT_EQ(kernels.kernels(0).metadata().key(), "image-fake-x86_64");
}

}  // namespace
}  // namespace ktstr::daemon
