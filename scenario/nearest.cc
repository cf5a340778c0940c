// SPDX-License-Identifier: Apache-2.0

#include "scenario/nearest.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/edit_distance.h"
#include "base/string_view.h"

namespace ktstr::scenario {
namespace {

// Longer input is no typing error, and the time grows with the product of both lengths.
constexpr size_t kMaxLength = 64;

}  // namespace

std::string_view NearestName(std::string_view name,
                             const std::vector<std::string_view>& candidates) {
  if (name.empty() || name.size() > kMaxLength) return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (std::string_view candidate : candidates) {
    const size_t distance = base::EditDistance(name, candidate);
    // At a distance of its whole length a candidate shares no letter with `name`.
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string DidYouMean(std::string_view name, const std::vector<std::string_view>& candidates) {
  const std::string_view nearest = NearestName(name, candidates);
  return nearest.empty() ? "" : absl::StrCat("; did you mean '", base::ToAbsl(nearest), "'?");
}

}  // namespace ktstr::scenario
