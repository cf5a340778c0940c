// SPDX-License-Identifier: Apache-2.0
//
// Files to the daemon's blob store: what it lacks, in pieces. Any thread.

#ifndef KTSTR_CLIENT_BUNDLE_UPLOAD_H_
#define KTSTR_CLIENT_BUNDLE_UPLOAD_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "client/bundle/closure.h"
#include "ktstr/v1/service.grpc.pb.h"

namespace ktstr::client {

// `progress` is called with bytes sent and bytes to send. InvalidArgument when a file changed since
// it was hashed.
absl::Status UploadFiles(v1::Ktstr::StubInterface* stub, const std::vector<BundleFile>& files,
                         const std::function<void(uint64_t sent, uint64_t total)>& progress);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_BUNDLE_UPLOAD_H_
