// SPDX-License-Identifier: Apache-2.0
//
// A daemon for tests of the client: a FakeService with the real protocol on a real unix socket.

#ifndef KTSTR_CLIENT_TESTING_FAKE_DAEMON_H_
#define KTSTR_CLIENT_TESTING_FAKE_DAEMON_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/testing/fake_service.h"

namespace ktstr::client {

// Serves from construction to Stop().
class FakeDaemon {
 public:
  FakeDaemon(FakeService* service, const std::string& socket) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(absl::StrCat("unix:", socket), grpc::InsecureServerCredentials());
    builder.RegisterService(service);
    // As ktstrd: the open streams of a client must leave room for its other calls.
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 256);
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
