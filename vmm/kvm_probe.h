// SPDX-License-Identifier: Apache-2.0
//
// Whether this process may use hardware virtualization, with the remedy when it may not. Any
// thread.

#ifndef KTSTR_VMM_KVM_PROBE_H_
#define KTSTR_VMM_KVM_PROBE_H_

#include <string>

#include "absl/status/status.h"

namespace ktstr::vmm {

// OK when `dev_path` ("/dev/kvm") opens for reading and writing and is KVM. NotFound,
// PermissionDenied or FailedPrecondition, with a text for the user.
absl::Status CheckKvm(const std::string& dev_path);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_KVM_PROBE_H_
