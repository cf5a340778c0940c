// SPDX-License-Identifier: Apache-2.0
//
// Unpacks the window's archive to files that can run, and reads the plan. Once per run.

#ifndef KTSTR_GUEST_BUNDLE_H_
#define KTSTR_GUEST_BUNDLE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

// Unpacks `archive` to `root` and reads its plan.pb. The archive's file root/PATH is one that
// programs name by the absolute path /PATH (their loader, a library): links /PATH, below
// `system_root` ("" in the guest; a directory in tests), to it. AlreadyExists when /PATH exists.
absl::StatusOr<v1::GuestPlan> LoadBundle(std::string_view archive, const std::string& root,
                                         const std::string& system_root);

// The plan.pb of an archive of which nothing is unpacked.
absl::StatusOr<v1::GuestPlan> ReadPlan(std::string_view archive);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_BUNDLE_H_
