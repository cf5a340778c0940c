// SPDX-License-Identifier: Apache-2.0
//
// What all calls of a fake daemon share: a test can name one that gets no response. Thread-safe.

#ifndef KTSTR_CLIENT_TESTING_SILENT_SERVICE_H_
#define KTSTR_CLIENT_TESTING_SILENT_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/protocol.h"
#include "ktstr/v1/service.grpc.pb.h"

namespace ktstr::client {

class SilentService : public v1::Ktstr::Service {
 public:
  // Name of the call that gets no response: its handler waits until the client gives up. Set it
  // while no call is under way.
  std::string silent;
  int silent_after = 0;  // This many of these calls get a response before.

  // Waits until that call has come; false after 20 s.
  bool WaitForSilentCall() {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    base::MutexLock lock(&mutex_);
    while (!silent_call_ && absl::Now() < deadline) {
      changed_.WaitFor(&mutex_, absl::Milliseconds(20));
    }
    return std::exchange(silent_call_, false);
  }

 protected:
  // True when the call is the silent one, after the client has given up.
  bool Silent(grpc::ServerContext* context, const char* name) {
    if (silent != name || silent_after-- > 0) return false;
    base::MutexLock lock(&mutex_);
    silent_call_ = true;
    changed_.SignalAll();
    while (!context->IsCancelled()) changed_.WaitFor(&mutex_, absl::Milliseconds(5));
    return true;
  }
  // Hands out the pieces of `message`.
  static void SendPieces(const google::protobuf::MessageLite& message,
                         const std::function<void(const v1::Piece&)>& send) {
    std::string bytes = message.SerializeAsString();
    v1::Piece piece;
    do {
      piece.set_data(bytes.substr(0, base::kPieceBytes));
      bytes.erase(0, piece.data().size());
      piece.set_last(bytes.empty());
      send(piece);
    } while (!piece.last());
  }

  mutable base::Mutex mutex_;
  base::CondVar changed_;

 private:
  bool silent_call_ = false;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_TESTING_SILENT_SERVICE_H_
