// SPDX-License-Identifier: Apache-2.0
#include "client/search/wilson.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ktstr::client {

Interval WilsonInterval(uint64_t hits, uint64_t trials) {
  if (trials == 0) return {};
  constexpr double z = 1.959963984540054;
  const double n = static_cast<double>(trials);
  const double p = static_cast<double>(std::min(hits, trials)) / n;
  const double scale = 1 / (1 + z * z / n);
  const double center = scale * (p + z * z / (2 * n));
  const double half = scale * z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  Interval interval = {std::max(0.0, center - half), std::min(1.0, center + half)};
  // Removes the rounding error.
  if (hits == 0) interval.low = 0;
  if (hits >= trials) interval.high = 1;
  return interval;
}

std::string RateText(uint64_t hits, uint64_t trials) {
  if (trials == 0) return "0 of 0";
  const Interval interval = WilsonInterval(hits, trials);
  return absl::StrCat(
      hits, " of ", trials,
      absl::StrFormat(" (%.1f %%, 95 %% interval %.1f to %.1f %%)",
                      100.0 * static_cast<double>(hits) / static_cast<double>(trials),
                      100 * interval.low, 100 * interval.high));
}

}  // namespace ktstr::client
