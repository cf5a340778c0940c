// SPDX-License-Identifier: Apache-2.0
//
// "did you mean": the known name that is closest to a mistyped one.

#ifndef KTSTR_SCENARIO_NEAREST_H_
#define KTSTR_SCENARIO_NEAREST_H_

#include <string>
#include <string_view>
#include <vector>

namespace ktstr::scenario {

// The candidate with the smallest edit distance to `name`, when that is at most a third of the
// length of `name` or 2, so that it may be a typing error; else empty. The earlier of equal
// candidates wins.
std::string_view NearestName(std::string_view name,
                             const std::vector<std::string_view>& candidates);

// "; did you mean 'X'?" or "".
std::string DidYouMean(std::string_view name, const std::vector<std::string_view>& candidates);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_NEAREST_H_
