// SPDX-License-Identifier: Apache-2.0
//
// From the window's archive to files that can be run, and the plan. Once per run.

#ifndef KTSTR_GUEST_BUNDLE_H_
#define KTSTR_GUEST_BUNDLE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

// Unpacks `archive` to `root` and reads its plan.pb. A file root/PATH of the archive is one that
// programs name by the absolute path /PATH (their loader, a library): a link to it is made there,
// below `system_root` ("" in the guest; a directory in tests). AlreadyExists when something else is
// there.
absl::StatusOr<v1::GuestPlan> LoadBundle(std::string_view archive, const std::string& root,
                                         const std::string& system_root);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_BUNDLE_H_
