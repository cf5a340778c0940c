// SPDX-License-Identifier: Apache-2.0
//
// Operations of the agent in which callbacks of a sched_ext scheduler take part. The scheduler may
// cause their failure, so the agent reports it as a fact of its own (v1::OperationFailed) and not
// as its error. A status carries the mark up to the code that reports it. Any thread.

#ifndef KTSTR_GUEST_OPERATION_H_
#define KTSTR_GUEST_OPERATION_H_

#include <string>

#include "absl/status/status.h"
#include "ktstr/v1/observation.pb.h"

namespace ktstr::guest {

// `status` with the mark; OK stays OK.
absl::Status MarkOperation(absl::Status status, v1::OperationFailed::Operation operation);
// OPERATION_UNSPECIFIED for a status without a mark.
v1::OperationFailed::Operation OperationOf(const absl::Status& status);

// The fact, with the guest's free memory and its tasks. `threads_max`:
// "/proc/sys/kernel/threads-max".
v1::OperationFailed DescribeFailure(const absl::Status& status, bool scheduler_enabled,
                                    const std::string& threads_max);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_OPERATION_H_
