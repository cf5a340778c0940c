// SPDX-License-Identifier: Apache-2.0
#include "daemon/testing/test_server.h"

#include <fcntl.h>
#include <google/protobuf/text_format.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/protocol.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "cache/kernel_entry.h"

namespace ktstr::daemon {

TestClient::TestClient(const std::string& socket) {
  grpc::ChannelArguments arguments;
  // Channels of one target share a connection otherwise.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetUserAgentPrefix(base::ProtocolAgent());
  stub_ = v1::Ktstr::NewStub(
      grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments));
}

grpc::Status TestClient::Submit(const v1::RunSpec& spec, std::string* id) {
  grpc::ClientContext context;
  v1::SubmitRunRequest request;
  *request.mutable_spec() = spec;
  v1::SubmitRunResponse response;
  grpc::Status status = stub_->SubmitRun(&context, request, &response);
  *id = response.run_id();
  return status;
}

grpc::Status TestClient::Watch(const std::string& id, uint64_t cursor,
                               std::vector<v1::RunEvent>* events,
                               const std::function<bool(const v1::RunEvent&)>& stop) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  const auto stream = stub_->WatchRuns(&context);
  v1::WatchRunsRequest request;
  request.set_run_id(id);
  request.set_cursor(cursor);
  stream->Write(request);
  stream->WritesDone();
  v1::WatchRunsResponse response;
  grpc::Status failure;
  std::string pieces;
  bool stopped = false;
  while (stream->Read(&response)) {
    if (response.has_failure()) {
      failure = {static_cast<grpc::StatusCode>(response.failure().code()),
                 response.failure().message()};
    }
    if (stopped) continue;
    v1::RunEvent event = response.event();
    if (response.has_event_piece()) {
      pieces += response.event_piece().data();
      if (!response.event_piece().last()) continue;
      EXPECT_TRUE(event.ParseFromString(pieces));
      pieces.clear();
    } else if (!response.has_event()) {
      continue;
    }
    events->push_back(event);
    if (!stop || !stop(event)) continue;
    context.TryCancel();
    stopped = true;
  }
  const grpc::Status ended = stream->Finish();
  if (stopped) return grpc::Status::OK;
  return failure.ok() ? ended : failure;
}

v1::RunRecord TestClient::Finish(const std::string& id) {
  std::vector<v1::RunEvent> events;
  const grpc::Status status = Watch(id, 0, &events);
  EXPECT_TRUE(status.ok()) << status.error_message();
  if (events.empty()) return {};
  EXPECT_TRUE(events.back().has_finished());
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].number(), i);
  return events.back().finished();
}

grpc::Status TestClient::Get(const v1::GetRunRequest& request, v1::GetRunResponse* response) {
  grpc::ClientContext context;
  const auto reader = stub_->GetRun(&context, request);
  v1::Piece piece;
  std::string bytes;
  while (reader->Read(&piece)) bytes += piece.data();
  EXPECT_TRUE(response->ParseFromString(bytes));
  return reader->Finish();
}

int TestClient::VmPid(const std::string& id) {
  std::vector<v1::RunEvent> events;
  int pid = 0;
  Watch(id, 0, &events, [&pid](const v1::RunEvent& event) {
    absl::string_view text = event.progress().text();
    if (absl::ConsumePrefix(&text, "fake vm pid ") && !absl::SimpleAtoi(text, &pid)) pid = 0;
    return event.phase().phase() == v1::RunPhase::RUNNING;
  });
  return pid;
}

grpc::Status TestClient::Put(const std::string& sha256, const std::string& content) {
  grpc::ClientContext context;
  v1::PutBlobResponse response;
  auto writer = stub_->PutBlob(&context, &response);
  v1::PutBlobRequest piece;
  piece.set_sha256(sha256);
  piece.set_size(content.size());
  constexpr size_t kPiece = size_t{1} << 20;
  size_t sent = 0;
  do {
    piece.set_data(content.substr(sent, kPiece));
    sent += piece.data().size();
    if (!writer->Write(piece)) break;
    piece.Clear();
  } while (sent < content.size());
  writer->WritesDone();
  return writer->Finish();
}

v1::RunSpec FakeSpec(const std::string& mode) {
  v1::RunSpec spec;
  const std::string text = absl::StrCat(
      "scenario { name: 'fake' topology { numa_nodes: 1 llcs: 1 cores_per_llc: 1"
      " threads_per_core: 1 } step { cgroup { name: 'fake-",
      mode,
      "' work { workers: 1 spin_wait {} } } } } engine: TCG timeout_ms: 60000"
      " reproduction { scenario: 'fake' } project_commit: '0123abc' run_source: 'local'");
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

void AddScheduler(const std::string& content, v1::RunSpec* spec) {
  spec->mutable_scenario()->mutable_scheduler()->set_name("scx_fake");
  v1::FileRef* file = spec->add_files();
  file->set_guest_path("bin/scx_fake");
  file->set_sha256(base::Sha256Hex(content));
  file->set_size(content.size());
  file->set_executable(true);
  spec->set_scheduler_path("bin/scx_fake");
}

void WriteFakeKernel(const std::string& cache_dir, const std::string& key,
                     const std::string& release, int64_t created_unix_s) {
  v1::KernelMetadata metadata;
  metadata.set_schema_version(cache::kMetadataSchema);
  metadata.set_key(key);
  metadata.set_version("7.3.4");
  metadata.set_release(release);
  metadata.set_created_unix_s(created_unix_s);
  metadata.set_source("image");
  metadata.set_arch("x86_64");
  metadata.set_sched_ext(true);
  metadata.set_build_id("0123456789abcdef");
  const std::string dir = cache_dir + "/kernels/" + key;
  ASSERT_TRUE(base::MakeDirs(dir).ok());
  const absl::Status written = cache::WriteEntry(
      dir, {{"vmlinux", "not really a kernel"}, {"config", "CONFIG_FAKE=y\n"}}, &metadata);
  ASSERT_TRUE(written.ok()) << written;
}

bool WaitGone(int pid) {
  base::UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return errno == ESRCH;
  pollfd wait = {process.get(), POLLIN, 0};
  return poll(&wait, 1, 20'000) == 1;
}

TestServer::TestServer() : dir_(*base::TempDir::Make("ktstrd")) {
  options_.socket = dir_.path() + "/ktstrd.sock";
  options_.cache_dir = dir_.path() + "/cache";
  options_.config = DefaultConfig(1);
  options_.config.set_qemu_path("true");  // Any program that exists: the VM is fake.
  options_.vm_program = KTSTR_FAKE_VM;
  options_.agent_program = KTSTR_FAKE_VM;
  options_.unwatched_grace = absl::Milliseconds(100);
  WriteFakeKernel(options_.cache_dir);
}

absl::Status TestServer::Start() {
  KTSTR_ASSIGN_OR_RETURN(server_, Server::Start(options_));
  stop_.Reset(eventfd(0, EFD_CLOEXEC));
  ended_.Reset(eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread([this] {
    server_->Serve(stop_.get());
    eventfd_write(ended_.get(), 1);
  });
  return absl::OkStatus();
}

bool TestServer::EndedWithin(absl::Duration time) {
  pollfd wait = {ended_.get(), POLLIN, 0};
  return poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(time))) == 1;
}

void TestServer::Stop() {
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
  server_.reset();
}

}  // namespace ktstr::daemon
