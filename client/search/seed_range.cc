// SPDX-License-Identifier: Apache-2.0
#include "client/search/seed_range.h"

#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ktstr::client {
namespace {

bool ParseNumber(absl::string_view text, uint64_t* out) {
  // SimpleAtoi would take blanks and a sign.
  return !text.empty() && text.find_first_not_of("0123456789") == absl::string_view::npos &&
         absl::SimpleAtoi(text, out) && *out > 0;
}

}  // namespace

absl::StatusOr<SeedRange> ParseSeedRange(absl::string_view text) {
  SeedRange range;
  const size_t dots = text.find("..");
  const bool one = dots == absl::string_view::npos;
  const bool numbers = one ? ParseNumber(text, &range.first)
                           : ParseNumber(text.substr(0, dots), &range.first) &&
                                 ParseNumber(text.substr(dots + 2), &range.last);
  if (one) range.last = range.first;
  if (!numbers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text,
        "' is not a range of seeds. Write FIRST..LAST with numbers from 1 on, as 1..100"));
  }
  if (range.last < range.first) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text, "': the last seed is below the first. Write ", range.last, "..", range.first));
  }
  if (range.last - range.first >= kMaxSeeds) {
    return absl::InvalidArgumentError(absl::StrCat("'", text, "' is more than ", kMaxSeeds,
                                                   " seeds; search a part of them at a time"));
  }
  return range;
}

}  // namespace ktstr::client
