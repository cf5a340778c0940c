// SPDX-License-Identifier: Apache-2.0
//
// The calls about kernels of a fake daemon. Thread-safe.

#ifndef KTSTR_CLIENT_TESTING_FAKE_KERNEL_SERVICE_H_
#define KTSTR_CLIENT_TESTING_FAKE_KERNEL_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "client/testing/silent_service.h"
#include "ktstr/v1/service.grpc.pb.h"

namespace ktstr::client {

// Set the members while no call is under way.
class FakeKernelService : public SilentService {
 public:
  v1::KernelEntry kernel;                 // The result of a fetch, and of an import.
  std::vector<std::string> import_lines;  // Progress of ImportKernel.

  grpc::Status ListKernels(grpc::ServerContext* context, const v1::ListKernelsRequest*,
                           v1::ListKernelsResponse*) override {
    Silent(context, "ListKernels");
    return grpc::Status::OK;
  }
  grpc::Status ImportKernel(grpc::ServerContext* context,
                            grpc::ServerReaderWriter<v1::ImportKernelResponse,
                                                     v1::ImportKernelRequest>* stream) override {
    v1::ImportKernelRequest request;
    while (!import_lines.empty() && stream->Read(&request)) {
    }
    for (const std::string& line : import_lines) {
      v1::ImportKernelResponse response;
      response.set_progress(line);
      stream->Write(response);
    }
    Silent(context, "ImportKernel");
    v1::ImportKernelResponse last;
    *last.add_kernels()->mutable_entry() = kernel;
    stream->Write(last);
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
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_TESTING_FAKE_KERNEL_SERVICE_H_
