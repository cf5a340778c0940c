// SPDX-License-Identifier: Apache-2.0
//
// How much two words differ. Pure, any thread.

#ifndef KTSTR_BASE_EDIT_DISTANCE_H_
#define KTSTR_BASE_EDIT_DISTANCE_H_

#include <cstddef>
#include <string_view>

namespace ktstr::base {

// Levenshtein distance: how many bytes to insert, remove or replace. Takes a.size() * b.size()
// steps, so the caller bounds the sizes.
size_t EditDistance(std::string_view a, std::string_view b);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_EDIT_DISTANCE_H_
