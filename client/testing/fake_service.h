// SPDX-License-Identifier: Apache-2.0
//
// The daemon's side of the protocol for tests of the client: runs that do as the test says, calls
// that are never answered.

#ifndef KTSTR_CLIENT_TESTING_FAKE_SERVICE_H_
#define KTSTR_CLIENT_TESTING_FAKE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/protocol.h"
#include "client/connect.h"
#include "ktstr/v1/service.grpc.pb.h"
#include "scenario/finding_kinds.h"
#include "scenario/reproduce.h"

namespace ktstr::client {

// Thread-safe, as gRPC calls it. A run has `events` progress events and then its record; the record
// waits until the run is released or cancelled.
class FakeService : public v1::Ktstr::Service {
 public:
  uint32_t protocol_version = base::kProtocolVersion;
  grpc::Status submit_status;
  int events = 3;
  std::atomic<bool> hold = false;  // Records wait for Release() or a cancel.
  v1::Verdict verdict = v1::PASS;
  // What a run came to, from its spec: sets verdict, findings and digest. Without it: `verdict`.
  std::function<void(const v1::RunSpec&, v1::RunRecord*)> judge;
  std::function<void(const v1::RunSpec&, v1::RunObservations*)> observe;  // For GetRun.
  v1::KernelEntry kernel;  // What is fetched and imported.
  int break_after = -1;    // Break a stream once, after so many events of a run.

  // Name of the call that is never answered: its handler waits until the client gives up. Set while
  // no call is under way.
  std::string silent;
  int silent_after = 0;  // So many of these calls are answered before.

  // Until that call has come; false after 20 s.
  bool WaitForSilentCall() {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    base::MutexLock lock(&mutex_);
    while (!silent_call_ && absl::Now() < deadline) {
      changed_.WaitFor(&mutex_, absl::Milliseconds(20));
    }
    return std::exchange(silent_call_, false);
  }
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

  grpc::Status Handshake(grpc::ServerContext* context, const v1::HandshakeRequest* request,
                         v1::HandshakeResponse* response) override {
    if (Silent(context, "Handshake")) return grpc::Status::CANCELLED;
    if (request->protocol_version() != protocol_version) {
      return {grpc::StatusCode::FAILED_PRECONDITION,
              "this daemon speaks another protocol; update ktstrctl"};
    }
    response->set_protocol_version(protocol_version);
    response->set_cache_dir("/cache");
    return grpc::Status::OK;
  }

  grpc::Status FindMissingBlobs(grpc::ServerContext* context,
                                const v1::FindMissingBlobsRequest* request,
                                v1::FindMissingBlobsResponse* response) override {
    if (Silent(context, "FindMissingBlobs")) return grpc::Status::CANCELLED;
    base::MutexLock lock(&mutex_);
    for (const std::string& name : request->sha256()) {
      if (blobs_.count(name) == 0) response->add_missing(name);
    }
    return grpc::Status::OK;
  }

  grpc::Status PutBlob(grpc::ServerContext* context, grpc::ServerReader<v1::PutBlobRequest>* reader,
                       v1::PutBlobResponse*) override {
    if (Silent(context, "PutBlob")) return grpc::Status::CANCELLED;
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

  grpc::Status SubmitRun(grpc::ServerContext* context, const v1::SubmitRunRequest* request,
                         v1::SubmitRunResponse* response) override {
    if (Silent(context, "SubmitRun")) return grpc::Status::CANCELLED;
    if (!submit_status.ok()) return submit_status;
    base::MutexLock lock(&mutex_);
    specs_.push_back(request->spec());
    response->set_run_id(absl::StrCat("r-000", specs_.size()));
    return grpc::Status::OK;
  }

  grpc::Status WatchRuns(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::WatchRunsResponse, v1::WatchRunsRequest>* stream) override {
    base::Mutex mutex;
    std::map<std::string, uint64_t> runs;  // With their cursors; guarded by `mutex`.
    bool closed = false;
    std::thread receiver([&] {
      v1::WatchRunsRequest request;
      while (stream->Read(&request)) {
        {
          base::MutexLock lock(&mutex_);
          cursors_.push_back(request.cursor());
        }
        base::MutexLock lock(&mutex);
        runs[request.run_id()] = request.cursor();
      }
      base::MutexLock lock(&mutex);
      closed = true;
    });
    grpc::Status status;
    while (status.ok()) {
      std::map<std::string, uint64_t> now;
      {
        base::MutexLock lock(&mutex);
        if (closed && runs.empty()) break;
        now = runs;
      }
      for (auto& [run_id, cursor] : now) {
        if (!SendOne(run_id, &cursor, stream)) {
          status = {grpc::StatusCode::UNAVAILABLE, "broken by the test"};
          break;
        }
        base::MutexLock lock(&mutex);
        runs[run_id] = cursor;
        if (cursor > static_cast<uint64_t>(events)) runs.erase(run_id);
      }
      if (context->IsCancelled()) status = grpc::Status::CANCELLED;
      base::MutexLock lock(&mutex_);
      changed_.WaitFor(&mutex_, absl::Milliseconds(2));
    }
    if (!status.ok()) context->TryCancel();
    receiver.join();
    return status;
  }

  grpc::Status GetRun(grpc::ServerContext* context, const v1::GetRunRequest* request,
                      v1::GetRunResponse* response) override {
    if (Silent(context, "GetRun")) return grpc::Status::CANCELLED;
    const std::optional<v1::RunSpec> spec = SpecOf(request->run_id());
    if (!spec) return {grpc::StatusCode::NOT_FOUND, "no run " + request->run_id()};
    response->mutable_summary()->set_run_id(request->run_id());
    response->mutable_summary()->set_state("finished");
    Judge(request->run_id(), response->mutable_record());
    if (request->with_spec()) *response->mutable_spec() = *spec;
    if (request->with_observations() && observe) observe(*spec, response->mutable_observations());
    return grpc::Status::OK;
  }

  grpc::Status ListKernels(grpc::ServerContext* context, const v1::ListKernelsRequest*,
                           v1::ListKernelsResponse*) override {
    Silent(context, "ListKernels");
    return grpc::Status::OK;
  }
  grpc::Status ImportKernel(grpc::ServerContext* context,
                            grpc::ServerReader<v1::ImportKernelRequest>*,
                            v1::ImportKernelResponse* response) override {
    Silent(context, "ImportKernel");
    *response->add_kernels()->mutable_entry() = kernel;
    return grpc::Status::OK;
  }
  grpc::Status FetchKernel(grpc::ServerContext* context, const v1::FetchKernelRequest*,
                           grpc::ServerWriter<v1::FetchKernelResponse>* writer) override {
    Silent(context, "FetchKernel");
    v1::FetchKernelResponse response;
    *response.mutable_entry() = kernel;
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status CancelRun(grpc::ServerContext* context, const v1::CancelRunRequest* request,
                         v1::CancelRunResponse*) override {
    if (Silent(context, "CancelRun")) return grpc::Status::CANCELLED;
    base::MutexLock lock(&mutex_);
    cancelled_[request->run_id()] = request->reason();
    changed_.SignalAll();
    return grpc::Status::OK;
  }

 private:
  // True when the call is the silent one, after the client has given up.
  bool Silent(grpc::ServerContext* context, const char* name) {
    if (silent != name || silent_after-- > 0) return false;
    base::MutexLock lock(&mutex_);
    silent_call_ = true;
    changed_.SignalAll();
    while (!context->IsCancelled()) changed_.WaitFor(&mutex_, absl::Milliseconds(5));
    return true;
  }
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
      *record->mutable_reproduction() = spec->reproduction();
      record->set_reproduce(scenario::ReproduceCommand(spec->reproduction()));
    }
    if (cancelled().count(run_id) > 0) {
      record->set_verdict(v1::ERROR);
      scenario::SetKind(scenario::FindingKind::kCancelled, record->add_findings());
    } else if (spec && judge) {
      judge(*spec, record);
    }
  }
  // Sends what is due of a run and moves its cursor; false: the test breaks the stream.
  bool SendOne(const std::string& run_id, uint64_t* cursor,
               grpc::ServerReaderWriter<v1::WatchRunsResponse, v1::WatchRunsRequest>* stream) {
    v1::WatchRunsResponse response;
    response.set_run_id(run_id);
    v1::RunEvent* event = response.mutable_event();
    for (; *cursor < static_cast<uint64_t>(events); ++*cursor) {
      if (static_cast<int64_t>(*cursor) == break_after && !broken_.exchange(true)) return false;
      event->set_number(*cursor);
      event->mutable_progress()->set_text(absl::StrCat("event ", *cursor));
      stream->Write(response);
    }
    if (*cursor > static_cast<uint64_t>(events) || !MayEnd(run_id)) return true;
    event->set_number((*cursor)++);
    Judge(run_id, event->mutable_finished());
    stream->Write(response);
    return true;
  }
  bool MayEnd(const std::string& run_id) const {
    base::MutexLock lock(&mutex_);
    return !hold || released_ || cancelled_.count(run_id) != 0;
  }

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool released_ = false;
  bool silent_call_ = false;
  std::atomic<bool> broken_ = false;
  std::vector<v1::RunSpec> specs_;
  std::vector<uint64_t> cursors_;
  std::map<std::string, std::string> cancelled_;
  std::map<std::string, std::string> blobs_;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_TESTING_FAKE_SERVICE_H_
