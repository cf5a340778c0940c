// SPDX-License-Identifier: Apache-2.0
//
// Debian 12 builds Abseil with a string_view of its own, newer distributions with std::string_view.
// Our interfaces take std::string_view; ToAbsl converts one for an Abseil call, and costs nothing
// where the two are the same type.

#ifndef KTSTR_BASE_STRING_VIEW_H_
#define KTSTR_BASE_STRING_VIEW_H_

#include <string_view>

#include "absl/strings/string_view.h"

namespace ktstr::base {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStd(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace ktstr::base

#endif  // KTSTR_BASE_STRING_VIEW_H_
