// SPDX-License-Identifier: Apache-2.0
//
// The list of cached kernels, for both `kernel list` and `list kernels`.

#ifndef KTSTR_CLIENT_KERNEL_LIST_H_
#define KTSTR_CLIENT_KERNEL_LIST_H_

#include <string>

#include "absl/status/status.h"
#include "client/command.h"

namespace ktstr::client {

// Kernels whose key contains `filter`.
absl::Status PrintKernels(const Session& session, const GlobalOptions& global,
                          const std::string& filter, Terminal* terminal);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_KERNEL_LIST_H_
