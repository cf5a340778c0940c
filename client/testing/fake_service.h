// SPDX-License-Identifier: Apache-2.0
//
// The daemon's side of the protocol for tests of the client: the test decides how runs end and
// which calls get no response.

#ifndef KTSTR_CLIENT_TESTING_FAKE_SERVICE_H_
#define KTSTR_CLIENT_TESTING_FAKE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
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
#include "client/testing/fake_kernel_service.h"
#include "ktstr/v1/service.grpc.pb.h"
#include "scenario/finding_kinds.h"
#include "scenario/reproduce.h"

namespace ktstr::client {

// Thread-safe, as gRPC calls it. A run has `events` progress events and then its record; the record
// waits until the run is released or cancelled.
class FakeService : public FakeKernelService {
 public:
  uint32_t protocol_version = base::kProtocolVersion;
  grpc::Status submit_status;
  int events = 3;
  std::atomic<bool> hold = false;                     // Records wait for Release() or a cancel.
  std::function<bool(const v1::RunSpec&)> hold_runs;  // Only the records of these runs wait.
  v1::Verdict verdict = v1::PASS;
  // Judges a run by its spec: sets verdict, findings and digest. Without it: `verdict`.
  std::function<void(const v1::RunSpec&, v1::RunRecord*)> judge;
  std::function<void(const v1::RunSpec&, v1::RunObservations*)> observe;  // For GetRun.
  std::set<uint64_t> known_seeds;  // With SubmitRunRequest.reuse, runs of these seeds are known.
  bool forget_known = false;       // Known runs are gone when their records are asked for.
  int break_after = -1;            // Breaks a stream once, after this many events of a run.

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
    if (request->reuse() && known_seeds.count(request->spec().scenario().seed()) > 0) {
      response->set_known(true);
      response->set_run_id(absl::StrCat("r-9", known_.size()));
      known_[response->run_id()] = request->spec();
      return grpc::Status::OK;
    }
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
                      grpc::ServerWriter<v1::Piece>* writer) override {
    if (Silent(context, "GetRun")) return grpc::Status::CANCELLED;
    const std::optional<v1::RunSpec> spec = SpecOf(request->run_id());
    if (!spec || (forget_known && IsKnown(request->run_id())))
      return {grpc::StatusCode::NOT_FOUND, "no run " + request->run_id()};
    v1::GetRunResponse response;
    response.mutable_summary()->set_run_id(request->run_id());
    response.mutable_summary()->set_state("finished");
    Judge(request->run_id(), response.mutable_record());
    if (request->with_spec()) *response.mutable_spec() = *spec;
    if (request->with_observations() && observe) observe(*spec, response.mutable_observations());
    SendPieces(response, [writer](const v1::Piece& piece) { writer->Write(piece); });
    return grpc::Status::OK;
  }

  // The runs that were submitted, newest first, in pages of at most `page_size`.
  int page_size = 1000;
  grpc::Status ListRuns(grpc::ServerContext*, const v1::ListRunsRequest* request,
                        v1::ListRunsResponse* response) override {
    base::MutexLock lock(&mutex_);
    size_t left = specs_.size();
    if (!request->page_token().empty() && !absl::SimpleAtoi(request->page_token(), &left))
      return {grpc::StatusCode::INVALID_ARGUMENT, "page_token"};
    const int wanted = std::min(page_size, request->page_size());
    for (; left > 0 && response->runs_size() < wanted; --left)
      response->add_runs()->set_run_id(absl::StrCat("r-000", left));
    if (left > 0) response->set_next_page_token(absl::StrCat(left));
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
  bool IsKnown(const std::string& run_id) const {
    base::MutexLock lock(&mutex_);
    return known_.count(run_id) > 0;
  }
  std::optional<v1::RunSpec> SpecOf(const std::string& run_id) const {
    base::MutexLock lock(&mutex_);
    if (const auto known = known_.find(run_id); known != known_.end()) return known->second;
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
    if (event->ByteSizeLong() <= base::kPieceBytes) return stream->Write(response);
    const v1::RunEvent whole = *event;
    SendPieces(whole, [&](const v1::Piece& piece) {
      *response.mutable_event_piece() = piece;
      stream->Write(response);
    });
    return true;
  }
  bool MayEnd(const std::string& run_id) const {
    const std::optional<v1::RunSpec> spec = SpecOf(run_id);
    const bool held = hold || (hold_runs && spec.has_value() && hold_runs(*spec));
    base::MutexLock lock(&mutex_);
    return !held || released_ || cancelled_.count(run_id) != 0;
  }

  bool released_ = false;
  std::atomic<bool> broken_ = false;
  std::vector<v1::RunSpec> specs_;
  std::map<std::string, v1::RunSpec> known_;  // Known runs.
  std::vector<uint64_t> cursors_;
  std::map<std::string, std::string> cancelled_;
  std::map<std::string, std::string> blobs_;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_TESTING_FAKE_SERVICE_H_
