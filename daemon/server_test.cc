// SPDX-License-Identifier: Apache-2.0
//
// The whole daemon on a real socket with a real client; only the VM process is fake
// (testing/fake_vm.cc).
#include "daemon/server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/flock.h"
#include "base/protocol.h"
#include "base/sha256.h"
#include "base/subprocess.h"
#include "base/wait_scope.h"
#include "cache/test_kernel.h"
#include "daemon/cache_lock.h"
#include "daemon/caller.h"
#include "daemon/daemon.h"
#include "daemon/testing/server_fixture.h"
#include "daemon/testing/test_server.h"
#include "scenario/json.h"
#include "scenario/record.h"

namespace ktstr::daemon {
namespace {

using testing::HasSubstr;

// One call with an empty message, whatever its kind.
grpc::Status CallWithNothing(grpc::GenericStub* stub, const std::string& method) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  auto call = stub->PrepareCall(&context, method, &queue);
  call->StartCall(&tag);
  queue.Next(&tag, &ok);
  const grpc::Slice nothing;
  call->WriteLast(grpc::ByteBuffer(&nothing, 1), grpc::WriteOptions(), &tag);
  queue.Next(&tag, &ok);
  grpc::Status status;
  call->Finish(&status, &tag);
  queue.Next(&tag, &ok);
  return status;
}

TEST_F(ServerTest, SubmitWatchPass) {
  Start();
  TestClient client = server_.Connect();
  std::string id;
  ASSERT_TRUE(client.Submit(FakeSpec("pass"), &id).ok());
  EXPECT_EQ(id, "r-0001");
  std::vector<v1::RunEvent> events;
  ASSERT_TRUE(client.Watch(id, 0, &events).ok());
  std::vector<v1::RunPhase::Phase> phases;
  for (const auto& event : events) {
    if (event.has_phase()) phases.push_back(event.phase().phase());
  }
  EXPECT_EQ(phases, (std::vector<v1::RunPhase::Phase>{v1::RunPhase::QUEUED, v1::RunPhase::KERNEL,
                                                      v1::RunPhase::STARTING, v1::RunPhase::RUNNING,
                                                      v1::RunPhase::COLLECTING}));
  ASSERT_TRUE(events.back().has_finished());
  const v1::RunRecord& record = events.back().finished();
  EXPECT_EQ(record.verdict(), v1::PASS) << record.DebugString();
  EXPECT_EQ(record.run_id(), id);
  EXPECT_EQ(record.variant().kernel(), "image-fake-x86_64");
  EXPECT_EQ(record.variant().kernel_release(), "7.3.4-fake");
  EXPECT_EQ(record.variant().engine(), "tcg");
  EXPECT_EQ(record.variant().topology(), "1n1l1c1t");
  EXPECT_EQ(record.reproduce(), "ktstrctl run fake --kernel image-fake-x86_64");
  EXPECT_EQ(record.project_commit(), "0123abc");
  EXPECT_EQ(record.engine_version(), "fake 1");
  EXPECT_EQ(record.timings().start(), v1::Timings::BOOT);
  EXPECT_EQ(record.guest_digest(), std::string(64, 'd'));

  v1::RunRecord filed;
  const std::string path = server_.dir() + "/cache/runs/" + UserName(getuid()) +
                           "/7.3.4-fake-0123abc/" + scenario::RecordFileName(record);
  EXPECT_THAT(scenario::RecordFileName(record), HasSubstr("fake-1n1l1c1t-tcg-s1-"));
  const auto json = base::ReadFile(path);
  ASSERT_TRUE(json.ok()) << json.status();
  ASSERT_TRUE(scenario::FromJson(*json, &filed).ok());
  EXPECT_EQ(filed.SerializeAsString(), record.SerializeAsString());
}

// The documented extremes of one run: 4096 workers, 252 CPUs, a log of 1 MiB; each message to the
// client is within gRPC's own limit of 4 MiB, which the client does not raise.
TEST_F(ServerTest, TheLargestRunIsReadWhole) {
  v1::RunRecord record;
  record.set_run_id("r-0001");
  record.set_verdict(v1::PASS);
  record.set_scheduler_log(std::string(size_t{1} << 20, 'l'));
  v1::RunObservations observations;
  for (int worker = 0; worker < 4096; ++worker) {
    v1::WorkerSummary* summary = record.add_workers();
    v1::WorkerReport* report = observations.add_observations()->mutable_worker_report();
    summary->set_cgroup(std::string(64, 'c'));
    v1::Finding* finding = record.add_findings();
    finding->set_kind("STARVED");
    finding->set_message(std::string(400, 'm'));
    for (uint32_t cpu = 0; cpu < 252; ++cpu) {
      summary->add_cpus_used(cpu);
      report->add_cpus_used(cpu);
    }
  }
  for (int piece = 0; piece < 32; ++piece) {
    observations.add_observations()->mutable_scheduler_output()->set_data(
        std::string(size_t{32} << 10, 'l'));
  }
  ASSERT_GT(record.ByteSizeLong(), size_t{4} << 20);
  const std::string runs = server_.options().cache_dir + "/runs";
  ASSERT_TRUE(base::MakeDirs(runs, 0700).ok());
  {
    auto store = *RunStore::Open(runs + "/runs.db");
    ASSERT_TRUE(store->Submit(getuid(), FakeSpec("pass"), v1::RunEvent()).ok());
    ASSERT_TRUE(store->Finish(1, record, observations, 1).ok());
  }
  Start();
  TestClient client = server_.Connect();
  EXPECT_EQ(client.Finish("r-0001").SerializeAsString(), record.SerializeAsString());
  v1::GetRunRequest request;
  request.set_run_id("r-0001");
  request.set_with_observations(true);
  request.set_with_spec(true);
  v1::GetRunResponse response;
  const grpc::Status status = client.Get(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.record().SerializeAsString(), record.SerializeAsString());
  EXPECT_EQ(response.observations().SerializeAsString(), observations.SerializeAsString());
}

TEST_F(ServerTest, ResumeFromCursorAndAfterTheEnd) {
  Start();
  TestClient client = server_.Connect();
  std::string id;
  ASSERT_TRUE(client.Submit(FakeSpec("pass"), &id).ok());
  std::vector<v1::RunEvent> first;
  client.Watch(id, 0, &first, [](const v1::RunEvent& event) { return event.number() == 2; });
  std::vector<v1::RunEvent> rest;
  ASSERT_TRUE(server_.Connect().Watch(id, 3, &rest).ok());
  EXPECT_EQ(rest.front().number(), 3u);
  EXPECT_TRUE(rest.back().has_finished());
  std::vector<v1::RunEvent> again;
  ASSERT_TRUE(client.Watch(id, rest.back().number(), &again).ok());
  EXPECT_EQ(again.size(), 1u);
}

TEST_F(ServerTest, SchedulerGoesThroughBlobs) {
  Start();
  TestClient client = server_.Connect();
  v1::RunSpec spec = FakeSpec("pass");
  AddScheduler("program", &spec);
  std::string id;
  grpc::Status status = client.Submit(spec, &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr(base::Sha256Hex("program")));

  grpc::ClientContext context;
  v1::FindMissingBlobsRequest request;
  request.add_sha256(base::Sha256Hex("program"));
  v1::FindMissingBlobsResponse missing;
  ASSERT_TRUE(client->FindMissingBlobs(&context, request, &missing).ok());
  EXPECT_EQ(missing.missing_size(), 1);

  status = client.Put(base::Sha256Hex("another"), "program");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  ASSERT_TRUE(client.Put(base::Sha256Hex("program"), "program").ok());
  status = client.Submit(spec, &id);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const v1::RunRecord record = client.Finish(id);
  EXPECT_EQ(record.verdict(), v1::PASS) << record.DebugString();
  EXPECT_EQ(record.scheduler().digest(), base::Sha256Hex("program"));
}

// The daemon does not trust the file sizes that a client sends.
TEST_F(ServerTest, SizesOfFilesComeFromTheStore) {
  Start();
  TestClient client = server_.Connect();
  std::string hang, id;
  ASSERT_TRUE(client.Submit(FakeSpec("hang"), &hang).ok());  // Takes the VM slot.
  const std::string content(size_t{1} << 20, 'x');
  ASSERT_TRUE(client.Put(base::Sha256Hex(content), content).ok());
  v1::RunSpec spec = FakeSpec("pass");
  AddScheduler(content, &spec);
  spec.mutable_files(0)->set_size(1);
  grpc::Status status = client.Submit(spec, &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("files[0].size: 1, but blob"));
  EXPECT_THAT(status.error_message(), HasSubstr("has 1048576 bytes"));
  // Exactly the limit, then one byte more.
  spec.mutable_files(0)->set_size(content.size());
  while (spec.files_size() < 1024) {
    v1::FileRef* file = spec.add_files();
    *file = spec.files(0);
    file->set_guest_path("data/" + std::to_string(spec.files_size()));
  }
  status = client.Submit(spec, &id);
  EXPECT_TRUE(status.ok()) << status.error_message();
  const std::string longer = content + "x";
  ASSERT_TRUE(client.Put(base::Sha256Hex(longer), longer).ok());
  spec.mutable_files(1023)->set_sha256(base::Sha256Hex(longer));
  spec.mutable_files(1023)->set_size(longer.size());
  status = client.Submit(spec, &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("files: 1073741825 bytes together, at most"));
}

// What waits cannot make room; what has ended can.
TEST_F(ServerTest, RunBudgetOfTheConfiguration) {
  server_.options().config.set_run_budget_mb(1);
  Start();
  TestClient client = server_.Connect();
  v1::RunSpec spec = FakeSpec("hang");
  spec.mutable_reproduction()->set_scheduler(std::string(60'000, 's'));
  std::vector<std::string> ids(18);
  grpc::Status status;
  size_t taken = 0;
  while (taken < ids.size() && (status = client.Submit(spec, &ids[taken])).ok()) ++taken;
  EXPECT_EQ(taken, 17u);  // 1 MiB is 17.4 of these.
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("more than the 1048576 bytes of run_budget_mb"));
}

// A run that was accepted has its files when it starts, also when the daemon ended in between.
TEST_F(ServerTest, QueuedRunsOwnTheirBlobs) {
  server_.options().config.set_blob_budget_mb(1);
  Start();
  const std::string scheduler(700'000, 's');
  const std::string other(700'000, 'o');
  std::string hang, before, queued;
  for (const bool restarted : {false, true}) {
    SCOPED_TRACE(restarted);
    if (restarted) {
      server_.Stop();
      // Its time without a run is over: only the run keeps it.
      const std::string blob = absl::StrCat(server_.options().cache_dir, "/blobs/", getuid(), "/",
                                            base::Sha256Hex(scheduler));
      const timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
      ASSERT_EQ(utimensat(AT_FDCWD, blob.c_str(), old, 0), 0) << blob;
      Start();
    }
    TestClient client = server_.Connect();
    if (!restarted) {
      ASSERT_TRUE(client.Submit(FakeSpec("hang"), &hang).ok());
      ASSERT_TRUE(client.Submit(FakeSpec("hang"), &before).ok());  // Runs after the restart.
      ASSERT_TRUE(client.Put(base::Sha256Hex(scheduler), scheduler).ok());
      v1::RunSpec spec = FakeSpec("hang");
      AddScheduler(scheduler, &spec);
      ASSERT_TRUE(client.Submit(spec, &queued).ok());
    }
    const grpc::Status status = client.Put(base::Sha256Hex(other), other);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(status.error_message(), HasSubstr("blob_budget_mb"));
    EXPECT_THAT(status.error_message(), HasSubstr("queued and running runs hold 700000, 0 were"));
  }
  TestClient client = server_.Connect();
  grpc::ClientContext context;
  v1::CancelRunRequest request;
  request.set_run_id(before);
  v1::CancelRunResponse response;
  ASSERT_TRUE(client->CancelRun(&context, request, &response).ok());
  EXPECT_GT(client.VmPid(queued), 0);  // It found its files.
}

TEST_F(ServerTest, CancelStopsTheVm) {
  Start();
  TestClient client = server_.Connect();
  std::string id;
  ASSERT_TRUE(client.Submit(FakeSpec("hang"), &id).ok());
  const int pid = client.VmPid(id);
  ASSERT_GT(pid, 0);
  grpc::ClientContext context;
  v1::CancelRunRequest request;
  request.set_run_id(id);
  request.set_reason("Ctrl-C");
  v1::CancelRunResponse response;
  ASSERT_TRUE(client->CancelRun(&context, request, &response).ok());
  const v1::RunRecord record = client.Finish(id);
  EXPECT_EQ(record.verdict(), v1::ERROR);
  EXPECT_EQ(KindOf(record), "CANCELLED");
  EXPECT_THAT(record.findings(0).message(), HasSubstr("Ctrl-C"));
  EXPECT_TRUE(WaitGone(pid));
}

// A call does not wait behind the most runs that `run -j` can have in flight on one connection.
TEST_F(ServerTest, CallsDoNotWaitBehindManyWatchedRuns) {
  constexpr int kRuns = 256;
  Start();
  TestClient client = server_.Connect();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(50));
  const auto stream = client->WatchRuns(&context);
  std::vector<std::string> ids(kRuns);
  for (std::string& id : ids) {
    ASSERT_TRUE(client.Submit(FakeSpec("hang"), &id).ok());
    v1::WatchRunsRequest request;
    request.set_run_id(id);
    ASSERT_TRUE(stream->Write(request));
  }
  v1::WatchRunsRequest unknown;
  unknown.set_run_id("r-9999");
  ASSERT_TRUE(stream->Write(unknown));
  stream->WritesDone();
  std::set<std::string> seen;
  v1::WatchRunsResponse response;
  while (seen.size() < kRuns + 1 && stream->Read(&response)) seen.insert(response.run_id());
  EXPECT_EQ(seen.count("r-9999"), 1u);
  for (const std::string& id : ids) {
    grpc::ClientContext cancel;
    cancel.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::CancelRunRequest request;
    request.set_run_id(id);
    v1::CancelRunResponse cancelled;
    ASSERT_TRUE(client->CancelRun(&cancel, request, &cancelled).ok()) << id;
  }
  int finished = 0;
  while (stream->Read(&response)) finished += response.event().has_finished();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(finished, kRuns);
}

TEST_F(ServerTest, ClientGoneCancelsOnlyWhenAskedTo) {
  server_.options().config.set_max_running_vms(2);
  Start();
  std::string attached;
  std::string detached;
  int pid = 0;
  {
    TestClient client = server_.Connect();
    v1::RunSpec spec = FakeSpec("hang");
    ASSERT_TRUE(client.Submit(spec, &detached).ok());
    spec.set_cancel_when_unwatched(true);
    ASSERT_TRUE(client.Submit(spec, &attached).ok());
    pid = client.VmPid(attached);
  }
  EXPECT_TRUE(WaitGone(pid));
  TestClient client = server_.Connect();
  const v1::RunRecord record = client.Finish(attached);
  EXPECT_EQ(KindOf(record), "CANCELLED");
  EXPECT_THAT(record.findings(0).message(), HasSubstr("client disconnected"));
  v1::GetRunRequest request;
  request.set_run_id(detached);
  v1::GetRunResponse response;
  ASSERT_TRUE(client.Get(request, &response).ok());
  EXPECT_EQ(response.summary().state(), "running");
}

TEST_F(ServerTest, SubmittingClientThatDiesBeforeWatchingCancels) {
  Start();
  std::string id;
  {
    TestClient client = server_.Connect();
    v1::RunSpec spec = FakeSpec("hang");
    spec.set_cancel_when_unwatched(true);
    ASSERT_TRUE(client.Submit(spec, &id).ok());
  }
  // No connection yet: one of the same user would keep the run alive.
  const std::string dir =
      server_.dir() + "/cache/runs/" + UserName(getuid()) + "/7.3.4-fake-0123abc";
  const auto filed = [&dir] {
    for (const std::string& name : base::ListDir(dir).value_or(std::vector<std::string>())) {
      if (name.ends_with(".ktstr.json")) return true;
    }
    return false;
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!filed() && absl::Now() < deadline) poll(nullptr, 0, 10);
  EXPECT_EQ(KindOf(server_.Connect().Finish(id)), "CANCELLED");
}

TEST_F(ServerTest, KilledVmIsInterrupted) {
  Start();
  TestClient client = server_.Connect();
  std::string id;
  ASSERT_TRUE(client.Submit(FakeSpec("hang"), &id).ok());
  ASSERT_EQ(kill(client.VmPid(id), SIGKILL), 0);
  const v1::RunRecord record = client.Finish(id);
  EXPECT_EQ(record.verdict(), v1::ERROR);
  EXPECT_EQ(KindOf(record), "INTERRUPTED");
  EXPECT_THAT(record.findings(0).message(), HasSubstr("signal 9"));
  EXPECT_EQ(record.stage_reached(), "STEPS_RUNNING");
  EXPECT_EQ(RunOf("pass").verdict(), v1::PASS);
}

TEST_F(ServerTest, BadVmProcessesEndTheirRunOnly) {
  Start();
  const std::vector<std::pair<std::string, std::string>> cases = {{"die", "INTERRUPTED"},
                                                                  {"leave", "ENGINE"},
                                                                  {"garbage", "ENGINE"},
                                                                  {"flood", "GUEST_CHANNEL"}};
  for (const auto& [mode, kind] : cases) {
    const v1::RunRecord record = RunOf(mode);
    EXPECT_EQ(record.verdict(), v1::ERROR) << mode;
    EXPECT_EQ(KindOf(record), kind) << mode << ": " << record.DebugString().substr(0, 2000);
  }
  const v1::RunRecord panic = RunOf("panic");
  EXPECT_EQ(panic.verdict(), v1::FAIL);
  EXPECT_EQ(KindOf(panic), "KERNEL_PANIC");
  EXPECT_EQ(RunOf("pass").verdict(), v1::PASS);
}

TEST_F(ServerTest, MissingVmProgramIsAnErrorOfTheRun) {
  server_.options().vm_program = "/nonexistent/ktstr-vm";
  Start();
  const v1::RunRecord record = RunOf("pass");
  EXPECT_EQ(record.verdict(), v1::ERROR);
  EXPECT_THAT(record.findings(0).message(), HasSubstr("/nonexistent/ktstr-vm"));
}

TEST_F(ServerTest, NoQemuIsSaidAtSubmit) {
  server_.options().config.set_qemu_path("qemu-system-nowhere");
  Start();
  std::string id;
  const grpc::Status status = server_.Connect().Submit(FakeSpec("pass"), &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("apt install qemu-system-x86"));
}

TEST_F(ServerTest, KvmByNameIsRefused) {
  Start();
  v1::RunSpec spec = FakeSpec("pass");
  spec.set_engine(v1::KVM);
  std::string id;
  const grpc::Status status = server_.Connect().Submit(spec, &id);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("kvm"));
}

TEST_F(ServerTest, UnknownKernelAndBadSpecAreRefused) {
  Start();
  TestClient client = server_.Connect();
  v1::RunSpec spec = FakeSpec("pass");
  spec.set_kernel("9.9");
  std::string id;
  EXPECT_EQ(client.Submit(spec, &id).error_code(), grpc::StatusCode::NOT_FOUND);
  spec = FakeSpec("pass");
  spec.mutable_scenario()->clear_step();
  EXPECT_EQ(client.Submit(spec, &id).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  spec = FakeSpec("pass");
  spec.mutable_reproduction()->set_scheduler(std::string(5 << 20, 'x'));
  EXPECT_EQ(client.Submit(spec, &id).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ServerTest, Handshake) {
  Start();
  TestClient client = server_.Connect();
  v1::HandshakeRequest request;
  request.set_protocol_version(base::kProtocolVersion);
  request.set_client_version("test 1");
  v1::HandshakeResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(client->Handshake(&context, request, &response).ok());
  }
  EXPECT_EQ(response.uid(), getuid());
  EXPECT_EQ(response.daemon_pid(), getpid());
  EXPECT_TRUE(response.private_daemon());
  request.set_protocol_version(base::kProtocolVersion + 1);
  grpc::ClientContext context;
  const grpc::Status status = client->Handshake(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(),
              HasSubstr(absl::StrCat("protocol version ", base::kProtocolVersion + 1)));
}

TEST_F(ServerTest, TwoClientsAtOnce) {
  server_.options().config.set_max_running_vms(2);
  Start();
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([this] { EXPECT_EQ(RunOf("pass").verdict(), v1::PASS); });
  }
  for (std::thread& thread : threads) thread.join();
  grpc::ClientContext context;
  v1::ListRunsResponse runs;
  TestClient client = server_.Connect();
  ASSERT_TRUE(client->ListRuns(&context, v1::ListRunsRequest(), &runs).ok());
  EXPECT_EQ(runs.runs_size(), 2);
}

// Returns once the daemon has closed the connection; false after 10 s.
bool SendAndWaitForClose(const std::string& path, const std::string& bytes) {
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {.sun_family = AF_UNIX};
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return false;
  if (send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return true;
  pollfd wait = {fd.get(), POLLRDHUP, 0};
  return poll(&wait, 1, 10'000) == 1;
}

TEST_F(ServerTest, GarbageIsCutOff) {
  Start();
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(100'000, '\xff'), std::string("PRI"),
        preface + std::string(100'000, '\xff')}) {
    EXPECT_TRUE(SendAndWaitForClose(server_.options().socket, bytes)) << bytes.substr(0, 20);
  }
  EXPECT_EQ(RunOf("pass").verdict(), v1::PASS);
}

TEST_F(ServerTest, IdleDaemonEndsAndRemovesItsSocket) {
  server_.options().config.set_idle_exit_seconds(1);
  Start();
  EXPECT_EQ(RunOf("pass").verdict(), v1::PASS);
  EXPECT_TRUE(server_.WaitEnded());
  EXPECT_FALSE(base::Exists(server_.options().socket));
}

TEST_F(ServerTest, IdleExitOfZeroIsNever) {
  server_.options().config.set_idle_exit_seconds(0);
  Start();
  // The run has ended and its client has left: a daemon that ends when idle would end now.
  EXPECT_EQ(RunOf("pass").verdict(), v1::PASS);
  EXPECT_FALSE(server_.EndedWithin(absl::Seconds(2)));
  EXPECT_EQ(RunOf("pass").verdict(), v1::PASS);
}

// What the main thread of a process has used of its CPUs.
absl::Duration CpuTime(pid_t pid) {
  uint64_t ns = 0;
  const absl::StatusOr<std::string> text =
      base::ReadFile(absl::StrCat("/proc/", pid, "/schedstat"));
  EXPECT_TRUE(text.ok() && absl::SimpleAtoi(text->substr(0, text->find(' ')), &ns));
  return absl::Nanoseconds(ns);
}

// Clients beyond the daemon's descriptors wait; its log stays readable, and it serves afterwards.
TEST_F(ServerTest, AcceptWithoutDescriptorsBacksOff) {
#if defined(__has_feature)
#if __has_feature(undefined_behavior_sanitizer)
  GTEST_SKIP() << "UBSan's vptr check takes a pipe, and without descriptors reports sound objects";
#endif
#endif
  const std::string log = server_.dir() + "/log";
  base::UniqueFd log_fd = *base::Open(log, O_RDWR | O_CREAT | O_APPEND, 0600);
  auto daemon = StartDaemon(log_fd.get(), {{RLIMIT_NOFILE, 96}});
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  auto accepts = [&log] {
    const std::string text = *base::ReadFile(log);
    int count = 0;
    for (size_t at = 0; (at = text.find("accept: ", at)) != std::string::npos; ++at) ++count;
    return count;
  };
  {
    std::vector<base::UniqueFd> silent;
    sockaddr_un address = {.sun_family = AF_UNIX};
    server_.options().socket.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (accepts() == 0 && absl::Now() < deadline) {
      base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
        silent.push_back(std::move(fd));
      } else {
        poll(nullptr, 0, 5);  // Its backlog is full.
      }
    }
    EXPECT_EQ(accepts(), 1);
    // Five attempts in a second; without the pause the loop runs all the time.
    const absl::Duration before = CpuTime(daemon->pid());
    absl::SleepFor(absl::Seconds(1));
    EXPECT_LT(CpuTime(daemon->pid()) - before, absl::Milliseconds(50));
  }
  EXPECT_EQ(RunOf("pass").verdict(), v1::PASS);
  EXPECT_EQ(accepts(), 1);
  daemon->Kill(SIGKILL);
}

// A bundle opens one of its files at a time.
TEST_F(ServerTest, ABundleOfManyFilesNeedsFewDescriptors) {
  auto daemon = StartDaemon(STDERR_FILENO, {{RLIMIT_NOFILE, 96}});
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  TestClient client = server_.Connect();
  v1::RunSpec spec = FakeSpec("pass");
  AddScheduler("program", &spec);
  while (spec.files_size() < 1024) {
    v1::FileRef* file = spec.add_files();
    *file = spec.files(0);
    file->set_guest_path(absl::StrCat("data/", spec.files_size()));
  }
  ASSERT_TRUE(client.Put(base::Sha256Hex("program"), "program").ok());
  std::string id;
  const grpc::Status status = client.Submit(spec, &id);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const v1::RunRecord record = client.Finish(id);
  EXPECT_EQ(record.verdict(), v1::PASS) << record.findings(0).message();
  daemon->Kill(SIGKILL);
}

// Every call, also those of a later version, needs the protocol version.
TEST_F(ServerTest, CallsOfAnotherProtocolAreRefused) {
  Start();
  const auto* service =
      google::protobuf::DescriptorPool::generated_pool()->FindServiceByName("ktstr.v1.Ktstr");
  ASSERT_NE(service, nullptr);
  for (const char* agent : {"", "ktstr/2", "ktstr/31", "other/1 ktstr/3"}) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    if (*agent != '\0') arguments.SetUserAgentPrefix(agent);
    grpc::GenericStub stub(grpc::CreateCustomChannel(
        "unix:" + server_.options().socket, grpc::InsecureChannelCredentials(), arguments));
    for (int i = 0; i < service->method_count(); ++i) {
      const std::string method = service->method(i)->name();
      if (method == "Handshake") continue;  // Its request holds the version.
      SCOPED_TRACE(method + " of '" + agent + "'");
      const grpc::Status status = CallWithNothing(&stub, "/ktstr.v1.Ktstr/" + method);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
      EXPECT_THAT(status.error_message(), HasSubstr(absl::StrCat("'", base::ProtocolAgent(), "'")));
    }
  }
}

TEST_F(ServerTest, SecondDaemonIsTold) {
  Start();
  EXPECT_EQ(Server::Start(server_.options()).status().code(), absl::StatusCode::kAlreadyExists);
  ServerOptions other = server_.options();
  other.socket = server_.dir() + "/other.sock";
  const auto second = Server::Start(other);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("another ktstrd uses the cache"));
  EXPECT_EQ(SocketElsewhere(second.status()), server_.options().socket);
  EXPECT_FALSE(base::Exists(other.socket));
}

TEST_F(ServerTest, StaleSocketIsReplacedAndPrivate) {
  ASSERT_TRUE(base::WriteFileAtomic(server_.options().socket, "left over").ok());
  Start();
  struct stat info;
  ASSERT_EQ(stat(server_.options().socket.c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(RunOf("pass").verdict(), v1::PASS);
}

TEST_F(ServerTest, TooLongSocketPathIsRefused) {
  server_.options().socket = server_.dir() + "/" + std::string(120, 's');
  const absl::Status started = server_.Start();
  EXPECT_EQ(started.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ServerTest, StopInterruptsAndQueuedRunsGoOnNextTime) {
  Start();
  std::string running;
  std::string queued;
  int pid = 0;
  {
    TestClient client = server_.Connect();
    ASSERT_TRUE(client.Submit(FakeSpec("deaf"), &running).ok());
    ASSERT_TRUE(client.Submit(FakeSpec("pass"), &queued).ok());
    pid = client.VmPid(running);
  }
  server_.Stop();
  EXPECT_FALSE(base::Exists(server_.options().socket));
  EXPECT_TRUE(WaitGone(pid));
  Start();
  TestClient client = server_.Connect();
  EXPECT_EQ(KindOf(client.Finish(running)), "INTERRUPTED");
  EXPECT_EQ(client.Finish(queued).verdict(), v1::PASS);
}

TEST_F(ServerTest, KilledDaemonTakesItsVmAlongAndTheNextOneGoesOn) {
  auto daemon = StartDaemon(STDERR_FILENO, {});
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  std::string running;
  std::string queued;
  int pid = 0;
  {
    TestClient client = server_.Connect();
    ASSERT_TRUE(client.Submit(FakeSpec("deaf"), &running).ok());
    ASSERT_TRUE(client.Submit(FakeSpec("pass"), &queued).ok());
    pid = client.VmPid(running);
  }
  daemon->Kill(SIGKILL);
  ASSERT_TRUE(daemon->Wait(absl::Seconds(20)).has_value());
  EXPECT_TRUE(WaitGone(pid));
  Start();
  TestClient client = server_.Connect();
  const v1::RunRecord record = client.Finish(running);
  EXPECT_EQ(record.verdict(), v1::ERROR);
  EXPECT_EQ(KindOf(record), "INTERRUPTED");
  EXPECT_EQ(client.Finish(queued).verdict(), v1::PASS);
}

}  // namespace
}  // namespace ktstr::daemon
