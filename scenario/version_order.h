// SPDX-License-Identifier: Apache-2.0
//
// Compares kernel versions and releases. Pure; any thread.

#ifndef KTSTR_SCENARIO_VERSION_ORDER_H_
#define KTSTR_SCENARIO_VERSION_ORDER_H_

#include <string_view>

namespace ktstr::scenario {

// Negative, 0 or positive when `a` is older than, equal to or newer than `b`. Digits compare as
// numbers, the rest as text; a candidate is older than its release: 7.3-rc2 < 7.3 < 7.3.4 < 7.10.
int CompareVersions(std::string_view a, std::string_view b);

// "7", "7.3" and "7.3.4" are prefixes of "7.3.4"; "7.3" is not one of "7.30.1".
bool IsVersionPrefix(std::string_view prefix, std::string_view version);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_VERSION_ORDER_H_
