// SPDX-License-Identifier: Apache-2.0
#include "daemon/service.h"

#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/protocol.h"
#include "base/status_macros.h"
#include "base/wait_scope.h"
#include "daemon/grpc_status.h"
#include "daemon/pages.h"
#include "scenario/limits.h"

namespace ktstr::daemon {
namespace {

// False: the client has another protocol version, or is another program.
bool SpeaksProtocol(const grpc::ServerContext& context) {
  const auto found = context.client_metadata().find("user-agent");
  if (found == context.client_metadata().end()) return false;
  const std::string agent(found->second.data(), found->second.size());
  const std::string wanted = base::ProtocolAgent();
  return agent.rfind(wanted, 0) == 0 &&
         (agent.size() == wanted.size() || agent[wanted.size()] == ' ');
}

// The first line of every call but Handshake.
grpc::Status CheckProtocol(const grpc::ServerContext& context) {
  if (SpeaksProtocol(context)) return grpc::Status::OK;
  return ToGrpc(absl::FailedPreconditionError(absl::StrCat(
      "user-agent: a call must come from the user agent '", base::ProtocolAgent(),
      "', which names the protocol version: install client and daemon from one build")));
}

using scenario::CheckLimit;
using scenario::LimitOf;

// A synchronous handler has to poll to see that its client has disconnected.
constexpr absl::Duration kCancelCheckPeriod = absl::Milliseconds(200);

// Ends the waits of a handler when its client disconnects.
std::function<bool()> ClientGone(grpc::ServerContext* context) {
  return [context] { return context->IsCancelled(); };
}

absl::Status Cancelled() { return absl::CancelledError("the client disconnected"); }

absl::Status ReceiveBlob(Daemon* daemon, const Caller& caller, grpc::ServerContext* context,
                         grpc::ServerReader<v1::PutBlobRequest>* reader) {
  v1::PutBlobRequest piece;
  if (!reader->Read(&piece)) return absl::InvalidArgumentError("PutBlob: no message");
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<cache::BlobWriter> writer,
                         daemon->BeginBlob(caller, piece.sha256(), piece.size()));
  do {
    KTSTR_RETURN_IF_ERROR(CheckLimit(LimitOf("PutBlobRequest.data"), "data", piece.data().size()));
    KTSTR_RETURN_IF_ERROR(writer->Append(piece.data()));
    piece.Clear();
  } while (reader->Read(&piece));
  // The stream also ends when the client dies in the middle.
  if (context->IsCancelled()) return Cancelled();
  return writer->Commit();
}

using ImportStream = grpc::ServerReaderWriter<v1::ImportKernelResponse, v1::ImportKernelRequest>;

absl::Status ReceiveKernels(Daemon* daemon, const Caller& caller, grpc::ServerContext* context,
                            ImportStream* stream) {
  const std::unique_ptr<KernelUpload> upload = daemon->imports().BeginUpload(caller);
  v1::ImportKernelRequest piece;
  while (stream->Read(&piece)) {
    if (piece.has_header()) KTSTR_RETURN_IF_ERROR(upload->Begin(piece.header()));
    KTSTR_RETURN_IF_ERROR(
        CheckLimit(LimitOf("ImportKernelRequest.data"), "data", piece.data().size()));
    KTSTR_RETURN_IF_ERROR(upload->Append(piece.data()));
    piece.Clear();
  }
  if (context->IsCancelled()) return Cancelled();
  const auto progress = [stream](const std::string& line) {
    v1::ImportKernelResponse response;
    response.set_progress(line);
    stream->Write(response);
  };
  KTSTR_ASSIGN_OR_RETURN(std::vector<cache::KernelCache::Imported> imported,
                         upload->Finish(ClientGone(context), progress));
  v1::ImportKernelResponse response;
  for (cache::KernelCache::Imported& one : imported) {
    v1::ImportKernelResponse::Kernel* kernel = response.add_kernels();
    *kernel->mutable_entry() = std::move(one.entry);
    kernel->set_already_there(one.already_there);
  }
  return stream->Write(response) ? absl::OkStatus() : Cancelled();
}

using RunStream = grpc::ServerReaderWriter<v1::WatchRunsResponse, v1::WatchRunsRequest>;

// False when the client has disconnected.
bool SendStep(const RunManager::WatchSet::Step& step, RunStream* stream) {
  v1::WatchRunsResponse response;
  response.set_run_id(step.run_id);
  if (!step.events.ok()) {
    const grpc::Status status = ToGrpc(step.events.status());
    response.mutable_failure()->set_code(status.error_code());
    response.mutable_failure()->set_message(status.error_message());
    return stream->Write(response);
  }
  for (const v1::RunEvent& event : *step.events) {
    if (event.ByteSizeLong() <= base::kPieceBytes) {
      *response.mutable_event() = event;
      if (!stream->Write(response)) return false;
      continue;
    }
    const bool sent = SendPieces(event, [&](const v1::Piece& piece) {
      *response.mutable_event_piece() = piece;
      return stream->Write(response);
    });
    if (!sent) return false;
  }
  return true;
}

absl::Status SendSteps(RunManager::WatchSet* runs, const grpc::ServerContext& context,
                       RunStream* stream) {
  while (!runs->done()) {
    KTSTR_ASSIGN_OR_RETURN(const std::vector<RunManager::WatchSet::Step> steps,
                           runs->Next(kCancelCheckPeriod));
    for (const RunManager::WatchSet::Step& step : steps) {
      if (!SendStep(step, stream)) return Cancelled();
    }
    if (context.IsCancelled()) return Cancelled();
  }
  return absl::OkStatus();
}

// Two threads, however many runs: this one sends, and one receives.
absl::Status StreamRuns(Daemon* daemon, const Caller& caller, grpc::ServerContext* context,
                        RunStream* stream) {
  RunManager::WatchSet runs(&daemon->runs());
  std::thread receiver([&] {
    v1::WatchRunsRequest request;
    while (stream->Read(&request)) runs.Add(caller, request.run_id(), request.cursor());
    runs.Close();
  });
  absl::Status status = SendSteps(&runs, *context, stream);
  if (!status.ok()) context->TryCancel();  // Ends the receiver's Read().
  receiver.join();
  return status;
}

// Moves a page into the entries and the token of `response`, or returns the error.
template <typename Entry, typename Response>
grpc::Status AnswerPage(absl::StatusOr<Page<Entry>> page, Response* response,
                        google::protobuf::RepeatedPtrField<Entry>* entries) {
  if (!page.ok()) return ToGrpc(page.status());
  entries->Assign(std::make_move_iterator(page->entries.begin()),
                  std::make_move_iterator(page->entries.end()));
  response->set_next_page_token(page->next_token);
  return grpc::Status::OK;
}

// Moves the value into `response`, or returns the error.
template <typename T>
grpc::Status Answer(absl::StatusOr<T> result, T* response) {
  if (!result.ok()) return ToGrpc(result.status());
  *response = *std::move(result);
  return grpc::Status::OK;
}

}  // namespace

grpc::Status KtstrService::Handshake(grpc::ServerContext* context,
                                     const v1::HandshakeRequest* request,
                                     v1::HandshakeResponse* response) {
  return Answer(daemon_->Handshake(caller_, *request), response);
}

grpc::Status KtstrService::FindMissingBlobs(grpc::ServerContext* context,
                                            const v1::FindMissingBlobsRequest* request,
                                            v1::FindMissingBlobsResponse* response) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  const absl::StatusOr<std::vector<std::string>> missing = daemon_->FindMissingBlobs(
      caller_, std::vector<std::string>(request->sha256().begin(), request->sha256().end()));
  if (!missing.ok()) return ToGrpc(missing.status());
  response->mutable_missing()->Assign(missing->begin(), missing->end());
  return grpc::Status::OK;
}

grpc::Status KtstrService::PutBlob(grpc::ServerContext* context,
                                   grpc::ServerReader<v1::PutBlobRequest>* reader,
                                   v1::PutBlobResponse* response) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  return ToGrpc(ReceiveBlob(daemon_, caller_, context, reader));
}

grpc::Status KtstrService::SubmitRun(grpc::ServerContext* context,
                                     const v1::SubmitRunRequest* request,
                                     v1::SubmitRunResponse* response) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  const base::WaitScope waits(ClientGone(context));
  const absl::StatusOr<v1::SubmitRunResponse> submitted = daemon_->SubmitRun(caller_, *request);
  if (submitted.ok() && !submitted->known() && context->IsCancelled()) {
    // No client has the id of this run.
    const absl::Status ended = daemon_->runs().Cancel(
        caller_, submitted->run_id(), "the client disconnected before it had the run's id");
    return ToGrpc(ended.ok() ? Cancelled() : ended);
  }
  return Answer(submitted, response);
}

grpc::Status KtstrService::WatchRuns(grpc::ServerContext* context, RunStream* stream) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  return ToGrpc(StreamRuns(daemon_, caller_, context, stream));
}

grpc::Status KtstrService::CancelRun(grpc::ServerContext* context,
                                     const v1::CancelRunRequest* request,
                                     v1::CancelRunResponse* response) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  const absl::Status fits =
      CheckLimit(LimitOf("CancelRunRequest.reason"), "reason", request->reason().size());
  if (!fits.ok()) return ToGrpc(fits);
  return ToGrpc(daemon_->runs().Cancel(caller_, request->run_id(), request->reason()));
}

grpc::Status KtstrService::ListRuns(grpc::ServerContext* context,
                                    const v1::ListRunsRequest* request,
                                    v1::ListRunsResponse* response) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  return AnswerPage(daemon_->runs().List(caller_, request->page_size(), request->page_token()),
                    response, response->mutable_runs());
}

grpc::Status KtstrService::GetRun(grpc::ServerContext* context, const v1::GetRunRequest* request,
                                  grpc::ServerWriter<v1::Piece>* writer) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  const absl::StatusOr<v1::GetRunResponse> run = daemon_->runs().Get(caller_, *request);
  if (!run.ok()) return ToGrpc(run.status());
  const bool sent =
      SendPieces(*run, [writer](const v1::Piece& piece) { return writer->Write(piece); });
  return ToGrpc(sent ? absl::OkStatus() : Cancelled());
}

grpc::Status KtstrService::ListKernels(grpc::ServerContext* context,
                                       const v1::ListKernelsRequest* request,
                                       v1::ListKernelsResponse* response) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  const base::WaitScope waits(ClientGone(context));
  return AnswerPage(daemon_->ListKernels(caller_, request->page_size(), request->page_token()),
                    response, response->mutable_kernels());
}

grpc::Status KtstrService::ListSnapshots(grpc::ServerContext* context,
                                         const v1::ListSnapshotsRequest* request,
                                         v1::ListSnapshotsResponse* response) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  return AnswerPage(daemon_->ListSnapshots(caller_, request->page_size(), request->page_token()),
                    response, response->mutable_snapshots());
}

grpc::Status KtstrService::CleanSnapshots(grpc::ServerContext* context,
                                          const v1::CleanSnapshotsRequest* request,
                                          grpc::ServerWriter<v1::CleanSnapshotsResponse>* writer) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  auto removed = daemon_->CleanSnapshots(caller_);
  if (!removed.ok()) return ToGrpc(removed.status());
  v1::CleanSnapshotsResponse response;
  for (size_t i = 0; i < removed->size(); ++i) {
    *response.add_removed() = std::move((*removed)[i]);
    if (response.removed_size() < base::kMaxPageSize && i + 1 < removed->size()) continue;
    writer->Write(response);
    response.Clear();
  }
  return grpc::Status::OK;
}

grpc::Status KtstrService::ImportKernel(grpc::ServerContext* context, ImportStream* stream) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  return ToGrpc(ReceiveKernels(daemon_, caller_, context, stream));
}

grpc::Status KtstrService::FetchKernel(grpc::ServerContext* context,
                                       const v1::FetchKernelRequest* request,
                                       grpc::ServerWriter<v1::FetchKernelResponse>* writer) {
  if (grpc::Status refused = CheckProtocol(*context); !refused.ok()) return refused;
  auto progress = [writer](const std::string& line) {
    v1::FetchKernelResponse response;
    response.set_progress(line);
    writer->Write(response);
  };
  const auto cancelled = ClientGone(context);
  const base::WaitScope waits(cancelled, progress);
  absl::StatusOr<v1::KernelEntry> entry =
      daemon_->imports().Fetch(caller_, *request, progress, cancelled);
  if (!entry.ok()) return ToGrpc(entry.status());
  v1::FetchKernelResponse response;
  *response.mutable_entry() = *std::move(entry);
  writer->Write(response);
  return grpc::Status::OK;
}

}  // namespace ktstr::daemon
