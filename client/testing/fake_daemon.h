// SPDX-License-Identifier: Apache-2.0
//
// A daemon for tests of the client: the real protocol on a real unix socket, runs that do as the
// test says.

#ifndef KTSTR_CLIENT_TESTING_FAKE_DAEMON_H_
#define KTSTR_CLIENT_TESTING_FAKE_DAEMON_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "ktstr/v1/service.grpc.pb.h"
#include "scenario/finding_kinds.h"

namespace ktstr::client {

// Thread-safe, as gRPC calls it. A run has `events` progress events and then its record; the record
// waits until the run is released or cancelled.
class FakeService : public v1::Ktstr::Service {
 public:
  uint32_t protocol_version = 1;
  grpc::Status submit_status;
  int events = 3;
  std::atomic<bool> hold = false;  // Records wait for Release() or a cancel.
  v1::Verdict verdict = v1::PASS;
  // What a run came to, from its spec: sets verdict, findings and digest. Without it: `verdict`.
  std::function<void(const v1::RunSpec&, v1::RunRecord*)> judge;
  std::function<void(const v1::RunSpec&, v1::RunObservations*)> observe;  // For GetRun.
  int break_after = -1;  // Break the first stream of a run after so many events.

  void Release() {
    base::MutexLock lock(&mutex_);
    released_ = true;
    changed_.SignalAll();
  }
  std::vector<v1::RunSpec> specs() const {
    base::MutexLock lock(&mutex_);
    return specs_;
  }
  std::vector<uint64_t> cursors() const {
    base::MutexLock lock(&mutex_);
    return cursors_;
  }
  std::map<std::string, std::string> cancelled() const {
    base::MutexLock lock(&mutex_);
    return cancelled_;
  }
  // Loses all blobs.
  void Forget() {
    base::MutexLock lock(&mutex_);
    blobs_.clear();
  }
  std::map<std::string, std::string> blobs() const {
    base::MutexLock lock(&mutex_);
    return blobs_;
  }

  grpc::Status Handshake(grpc::ServerContext*, const v1::HandshakeRequest* request,
                         v1::HandshakeResponse* response) override {
    if (request->protocol_version() != protocol_version) {
      return {grpc::StatusCode::FAILED_PRECONDITION,
              "this daemon speaks protocol 2; update ktstrctl"};
    }
    response->set_protocol_version(protocol_version);
    response->set_cache_dir("/cache");
    return grpc::Status::OK;
  }

  grpc::Status FindMissingBlobs(grpc::ServerContext*, const v1::FindMissingBlobsRequest* request,
                                v1::FindMissingBlobsResponse* response) override {
    base::MutexLock lock(&mutex_);
    for (const std::string& name : request->sha256()) {
      if (blobs_.count(name) == 0) response->add_missing(name);
    }
    return grpc::Status::OK;
  }

  grpc::Status PutBlob(grpc::ServerContext*, grpc::ServerReader<v1::PutBlobRequest>* reader,
                       v1::PutBlobResponse*) override {
    v1::PutBlobRequest request;
    std::string name, data;
    while (reader->Read(&request)) {
      if (!request.sha256().empty()) name = request.sha256();
      data += request.data();
    }
    base::MutexLock lock(&mutex_);
    blobs_[name] = data;
    return grpc::Status::OK;
  }

  grpc::Status SubmitRun(grpc::ServerContext*, const v1::SubmitRunRequest* request,
                         v1::SubmitRunResponse* response) override {
    if (!submit_status.ok()) return submit_status;
    base::MutexLock lock(&mutex_);
    specs_.push_back(request->spec());
    response->set_run_id(absl::StrCat("r-000", specs_.size()));
    return grpc::Status::OK;
  }

  grpc::Status WatchRun(grpc::ServerContext* context, const v1::WatchRunRequest* request,
                        grpc::ServerWriter<v1::RunEvent>* writer) override {
    bool first;
    {
      base::MutexLock lock(&mutex_);
      first = watched_[request->run_id()]++ == 0;
      cursors_.push_back(request->cursor());
    }
    v1::RunEvent event;
    for (uint64_t n = request->cursor(); n < static_cast<uint64_t>(events); ++n) {
      if (first && break_after >= 0 && n == static_cast<uint64_t>(break_after)) {
        return {grpc::StatusCode::UNAVAILABLE, "broken by the test"};
      }
      event.set_number(n);
      event.mutable_progress()->set_text(absl::StrCat("event ", n));
      writer->Write(event);
    }
    if (!Wait(context, request->run_id())) return grpc::Status::CANCELLED;
    event.set_number(events);
    v1::RunRecord* record = event.mutable_finished();
    Judge(request->run_id(), record);
    writer->Write(event);
    return grpc::Status::OK;
  }

  grpc::Status GetRun(grpc::ServerContext*, const v1::GetRunRequest* request,
                      v1::GetRunResponse* response) override {
    const std::optional<v1::RunSpec> spec = SpecOf(request->run_id());
    if (!spec) return {grpc::StatusCode::NOT_FOUND, "no run " + request->run_id()};
    response->mutable_summary()->set_run_id(request->run_id());
    response->mutable_summary()->set_state("finished");
    Judge(request->run_id(), response->mutable_record());
    if (request->with_spec()) *response->mutable_spec() = *spec;
    if (request->with_observations() && observe) observe(*spec, response->mutable_observations());
    return grpc::Status::OK;
  }

  grpc::Status CancelRun(grpc::ServerContext*, const v1::CancelRunRequest* request,
                         v1::CancelRunResponse*) override {
    base::MutexLock lock(&mutex_);
    cancelled_[request->run_id()] = request->reason();
    changed_.SignalAll();
    return grpc::Status::OK;
  }

 private:
  std::optional<v1::RunSpec> SpecOf(const std::string& run_id) const {
    base::MutexLock lock(&mutex_);
    size_t number = 0;
    if (!absl::SimpleAtoi(run_id.substr(std::min<size_t>(5, run_id.size())), &number) ||
        number < 1 || number > specs_.size()) {
      return std::nullopt;
    }
    return specs_[number - 1];
  }
  void Judge(const std::string& run_id, v1::RunRecord* record) {
    record->set_run_id(run_id);
    record->set_scenario("steady");
    record->set_verdict(verdict);
    const std::optional<v1::RunSpec> spec = SpecOf(run_id);
    if (spec) {
      record->mutable_variant()->set_seed(spec->scenario().seed());
      record->set_reproduce(spec->reproduce());
    }
    if (cancelled().count(run_id) > 0) {
      record->set_verdict(v1::ERROR);
      scenario::SetKind(scenario::FindingKind::kCancelled, record->add_findings());
    } else if (spec && judge) {
      judge(*spec, record);
    }
  }
  // Until the run may end; false when the client went away.
  bool Wait(grpc::ServerContext* context, const std::string& run_id) {
    base::MutexLock lock(&mutex_);
    while (hold && !released_ && cancelled_.count(run_id) == 0) {
      if (context->IsCancelled()) return false;
      changed_.WaitFor(&mutex_, absl::Milliseconds(20));
    }
    return true;
  }

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool released_ = false;
  std::vector<v1::RunSpec> specs_;
  std::vector<uint64_t> cursors_;
  std::map<std::string, int> watched_;
  std::map<std::string, std::string> cancelled_;
  std::map<std::string, std::string> blobs_;
};

// Serves from construction to Stop().
class FakeDaemon {
 public:
  FakeDaemon(FakeService* service, const std::string& socket) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(absl::StrCat("unix:", socket), grpc::InsecureServerCredentials());
    builder.RegisterService(service);
    server_ = builder.BuildAndStart();
  }
  ~FakeDaemon() { Stop(); }
  void Stop() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }

 private:
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_TESTING_FAKE_DAEMON_H_
