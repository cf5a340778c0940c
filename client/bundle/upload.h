// SPDX-License-Identifier: Apache-2.0
//
// Files to the daemon's blob store: what it lacks, in pieces. Any thread.

#ifndef KTSTR_CLIENT_BUNDLE_UPLOAD_H_
#define KTSTR_CLIENT_BUNDLE_UPLOAD_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "client/bundle/closure.h"
#include "client/connect.h"
#include "client/run_plan.h"
#include "client/terminal.h"

namespace ktstr::client {

// `progress` gets the bytes sent and the bytes to send. InvalidArgument when a file changed since
// it was hashed, Cancelled when the session is interrupted, DeadlineExceeded when the daemon takes
// nothing for a minute.
absl::Status UploadFiles(const Session& session, const std::vector<BundleFile>& files,
                         const std::function<void(uint64_t sent, uint64_t total)>& progress);

// Sends the plan's files that the daemon lacks, and shows the progress on the terminal.
absl::Status UploadPlan(const Session& session, const RunPlan& plan, Terminal* terminal);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_BUNDLE_UPLOAD_H_
