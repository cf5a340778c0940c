// SPDX-License-Identifier: Apache-2.0
//
// Translates gRPC calls to calls of Daemon, nothing else. One object per user: the caller is a
// constructor argument, so that no call can miss it. Any thread.

#ifndef KTSTR_DAEMON_SERVICE_H_
#define KTSTR_DAEMON_SERVICE_H_

#include <utility>

#include "daemon/caller.h"
#include "daemon/daemon.h"
#include "ktstr/v1/service.grpc.pb.h"

namespace ktstr::daemon {

class KtstrService final : public v1::Ktstr::Service {
 public:
  // `daemon` outlives the object.
  KtstrService(Daemon* daemon, Caller caller) : daemon_(daemon), caller_(std::move(caller)) {}

  grpc::Status Handshake(grpc::ServerContext* context, const v1::HandshakeRequest* request,
                         v1::HandshakeResponse* response) override;
  grpc::Status FindMissingBlobs(grpc::ServerContext* context,
                                const v1::FindMissingBlobsRequest* request,
                                v1::FindMissingBlobsResponse* response) override;
  grpc::Status PutBlob(grpc::ServerContext* context, grpc::ServerReader<v1::PutBlobRequest>* reader,
                       v1::PutBlobResponse* response) override;
  grpc::Status SubmitRun(grpc::ServerContext* context, const v1::SubmitRunRequest* request,
                         v1::SubmitRunResponse* response) override;
  grpc::Status WatchRuns(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::WatchRunsResponse, v1::WatchRunsRequest>* stream) override;
  grpc::Status CancelRun(grpc::ServerContext* context, const v1::CancelRunRequest* request,
                         v1::CancelRunResponse* response) override;
  grpc::Status ListRuns(grpc::ServerContext* context, const v1::ListRunsRequest* request,
                        v1::ListRunsResponse* response) override;
  grpc::Status GetRun(grpc::ServerContext* context, const v1::GetRunRequest* request,
                      grpc::ServerWriter<v1::Piece>* writer) override;
  grpc::Status ListSnapshots(grpc::ServerContext* context, const v1::ListSnapshotsRequest* request,
                             v1::ListSnapshotsResponse* response) override;
  grpc::Status CleanSnapshots(grpc::ServerContext* context,
                              const v1::CleanSnapshotsRequest* request,
                              grpc::ServerWriter<v1::CleanSnapshotsResponse>* writer) override;
  grpc::Status ListKernels(grpc::ServerContext* context, const v1::ListKernelsRequest* request,
                           v1::ListKernelsResponse* response) override;
  grpc::Status ImportKernel(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::ImportKernelResponse, v1::ImportKernelRequest>* stream) override;
  grpc::Status FetchKernel(grpc::ServerContext* context, const v1::FetchKernelRequest* request,
                           grpc::ServerWriter<v1::FetchKernelResponse>* writer) override;

 private:
  Daemon* const daemon_;
  const Caller caller_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_SERVICE_H_
