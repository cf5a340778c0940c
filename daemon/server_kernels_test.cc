// SPDX-License-Identifier: Apache-2.0
//
// Kernels over the wire: fetches that wait, several kernels of one version, files that come
// together, kernels that another process writes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/flock.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "cache/snapshot_store.h"
#include "cache/test_kernel.h"
#include "daemon/caller.h"
#include "daemon/daemon.h"
#include "daemon/server.h"
#include "daemon/testing/server_fixture.h"
#include "daemon/testing/test_server.h"

namespace ktstr::daemon {
namespace {

// A fetch keeps its turn for long: another process has locked the apt state directory.
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
    fetch->thread = std::thread([fetch, &first, &daemon] {
      v1::FetchKernelRequest request;
      request.set_source("deb:linux-image-none");
      fetch->status = (*daemon)
                          ->imports()
                          .Fetch(
                              CallerOf(getuid()), request,
                              [&](const std::string& line) {
                                fetch->waits =
                                    line == (fetch == &first ? "waiting for another fetch"
                                                             : "waiting for the fetch of "
                                                               "deb:linux-image-none by " +
                                                                   UserName(getuid()));
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
    auto writer = client->ImportKernel(&context);
    for (const std::string& file : files) {
      v1::ImportKernelRequest piece;
      piece.mutable_header()->set_file_name("file");
      piece.mutable_header()->set_size(file.size() + (whole ? 0 : 1));
      piece.set_data(file);
      writer->Write(piece);
    }
    writer->WritesDone();
    v1::ImportKernelResponse response;
    while (writer->Read(&response)) {
    }
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

// Another process writes the kernel of a run: the run reports it, and can be cancelled.
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
  const auto imported = upload->Finish([] { return false; }, [](const std::string&) {});
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(imported->front().entry.metadata().owner_uid(), 1001u);
}

// The label of an attached snapshot names what its owner tests.
TEST_F(ServerTest, SnapshotsBelongToTheirOwner) {
  {
    const base::UniqueFd memory = *base::MakeMemfd("memory", 4096);
    cache::SnapshotStore store(server_.options().cache_dir + "/snapshots", uint64_t{1} << 30);
    ASSERT_TRUE(
        store.Store({"attached", "scx_secret attached", uid_t{1001}}, memory.get(), {memory.get()})
            .ok());
    ASSERT_TRUE(store.Store({"ready", "7.3.4", std::nullopt}, memory.get(), {memory.get()}).ok());
  }
  const auto daemon = Daemon::Create(server_.options());
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  const auto count = [&](const Caller& caller) {
    return (*daemon)->ListSnapshots(caller, 0, "")->entries.size();
  };
  EXPECT_EQ(count({.uid = 1001, .user = "anna"}), 2u);
  EXPECT_EQ(count({.uid = 1002, .user = "bert"}), 1u);
  EXPECT_EQ(count({.uid = 0, .user = "root", .admin = true}), 2u);
  const Caller other = {.uid = geteuid() + 1, .user = "other"};
  EXPECT_TRUE(absl::IsPermissionDenied((*daemon)->CleanSnapshots(other).status()));
  EXPECT_EQ(count({.uid = 1001, .user = "anna"}), 2u);
}

// A submit does not wait: the wait is an event of the run, which can be cancelled.
TEST_F(ServerTest, ASubmitDoesNotWaitForItsKernel) {
  Start();
  const std::string lock = server_.options().cache_dir + "/.locks/image-fake-x86_64.lock";
  auto writer = base::FileLock::TryAcquire(lock, base::LockMode::kExclusive);
  ASSERT_TRUE(writer.ok()) << writer.status();
  TestClient client = server_.Connect();
  std::string id;
  ASSERT_TRUE(client.Submit(FakeSpec("pass"), &id).ok());
  std::vector<v1::RunEvent> events;
  client.Watch(id, 0, &events, [](const v1::RunEvent& event) {
    return event.progress().text().find("waiting for kernel image-fake-x86_64") == 0;
  });
  ASSERT_FALSE(events.empty());
  EXPECT_TRUE(events.back().has_progress()) << events.back().DebugString();
  // What can be told at once is.
  v1::RunSpec unknown = FakeSpec("pass");
  unknown.set_kernel("9.9");
  std::string none;
  EXPECT_EQ(client.Submit(unknown, &none).error_code(), grpc::StatusCode::NOT_FOUND);
  writer = absl::CancelledError();
  EXPECT_EQ(client.Finish(id).verdict(), v1::PASS);
}

// An upload of one file over the wire, and what comes of it.
class Importer {
 public:
  Importer(const TestServer& server, const std::string& name, const std::string& data)
      : client_(server.Connect()) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(50));
    stream_ = client_->ImportKernel(&context_);
    v1::ImportKernelRequest request;
    request.mutable_header()->set_file_name(name);
    request.mutable_header()->set_size(data.size());
    request.set_data(data);
    stream_->Write(request);
    stream_->WritesDone();
  }
  // Reads to a progress line that begins so; false when the stream ends before.
  bool ReadTo(const std::string& begin) {
    while (stream_->Read(&response_)) {
      if (response_.progress().rfind(begin, 0) == 0) return true;
    }
    return false;
  }
  const v1::ImportKernelResponse& response() const { return response_; }
  void Cancel() { context_.TryCancel(); }
  // Reads to the end.
  grpc::Status Finish() {
    while (stream_->Read(&response_)) {
    }
    return stream_->Finish();
  }

 private:
  TestClient client_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ImportKernelRequest, v1::ImportKernelResponse>>
      stream_;
  v1::ImportKernelResponse response_;
};

// The lock of the kernel that `data` holds, as a run of it has it.
absl::StatusOr<base::FileLock> LockKernelOf(const TestServer& server, const std::string& release,
                                            const std::string& vmlinux) {
  const std::string locks = server.dir() + "/cache/.locks";
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(locks));
  return base::FileLock::TryAcquire(absl::StrCat(locks, "/", release, "-x86_64-",
                                                 base::Sha256Hex(vmlinux).substr(0, 16), ".lock"),
                                    base::LockMode::kShared);
}

// Somebody has the kernel: the import says whom it waits for, another one says that it waits for
// the first, and both end with their clients.
TEST_F(ServerTest, AnImportThatWaitsSaysForWhat) {
  Start();
  const std::string vmlinux = cache::MakeVmlinux({.release = "7.3.5+test"});
  auto held = LockKernelOf(server_, "7.3.5+test", vmlinux);
  ASSERT_TRUE(held.ok()) << held.status();
  Importer first(server_, "vmlinux", vmlinux);
  EXPECT_TRUE(first.ReadTo("unpacking vmlinux"));
  ASSERT_TRUE(first.ReadTo("waiting for kernel 7.3.5+test-x86_64-"));
  EXPECT_NE(first.response().progress().find(absl::StrCat("pid=", getpid())), std::string::npos)
      << first.response().progress();
  Importer second(server_, "other", cache::MakeVmlinux({.release = "7.3.6"}));
  const std::string user = UserName(getuid());
  ASSERT_TRUE(second.ReadTo("waiting for the import of vmlinux by " + user));
  Importer third(server_, "third", vmlinux);
  ASSERT_TRUE(third.ReadTo("waiting for the import of vmlinux by " + user));
  third.Cancel();
  EXPECT_EQ(third.Finish().error_code(), grpc::StatusCode::CANCELLED);
  first.Cancel();  // The next one has its turn, whoever holds the lock.
  EXPECT_EQ(first.Finish().error_code(), grpc::StatusCode::CANCELLED);
  const grpc::Status status = second.Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(second.response().kernels_size(), 1);
  EXPECT_EQ(second.response().kernels(0).entry().metadata().release(), "7.3.6");
  // Free again: the same import succeeds.
  held = absl::CancelledError();
  Importer again(server_, "vmlinux", vmlinux);
  EXPECT_TRUE(again.ReadTo("writing 7.3.5+test-x86_64-"));
  EXPECT_TRUE(again.Finish().ok());
}

TEST_F(ServerTest, KernelsComeInPages) {
  for (int i = 0; i < 4; ++i) {
    WriteFakeKernel(server_.options().cache_dir, absl::StrCat("k", i), absl::StrCat("7.3.4-", i),
                    i);
  }
  Start();
  TestClient client = server_.Connect();
  std::set<std::string> keys;
  std::vector<int> sizes;
  v1::ListKernelsRequest request;
  request.set_page_size(2);
  do {
    grpc::ClientContext context;
    v1::ListKernelsResponse response;
    ASSERT_TRUE(client->ListKernels(&context, request, &response).ok());
    for (const v1::KernelEntry& entry : response.kernels()) keys.insert(entry.metadata().key());
    sizes.push_back(response.kernels_size());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(sizes, (std::vector<int>{2, 2, 1}));
  EXPECT_EQ(keys.size(), 5u);
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
    auto writer = client->ImportKernel(&context);
    v1::ImportKernelRequest piece;
    piece.mutable_header()->set_file_name(bad.name);
    piece.mutable_header()->set_size(bad.size);
    piece.set_data(bad.data);
    writer->Write(piece);
    writer->WritesDone();
    v1::ImportKernelResponse response;
    EXPECT_FALSE(writer->Read(&response)) << bad.name;
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
