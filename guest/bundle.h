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

// Unpacks `archive` to `root` and reads its plan.pb. When it brings lib/ld-linux-x86-64.so.2,
// `loader` (/lib64/…, where programs name it) becomes a link to that.
absl::StatusOr<v1::GuestPlan> LoadBundle(std::string_view archive, const std::string& root,
                                         const std::string& loader);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_BUNDLE_H_
