// SPDX-License-Identifier: Apache-2.0
//
// Which cached kernel an id means, by the rule of `run --kernel`. Pure; any thread.

#ifndef KTSTR_CLIENT_KERNEL_MATCH_H_
#define KTSTR_CLIENT_KERNEL_MATCH_H_

#include "absl/strings/string_view.h"
#include "ktstr/v1/service.pb.h"

namespace ktstr::client {

// `id`: a key (of a corrupt entry, too), else a release, a version, or a version's prefix ("7.3",
// "7"): of several the newest sound one. Null when nothing matches. Points into `kernels`, the
// daemon's list: newest version first.
const v1::KernelEntry* MatchKernel(const v1::ListKernelsResponse& kernels, absl::string_view id);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_KERNEL_MATCH_H_
