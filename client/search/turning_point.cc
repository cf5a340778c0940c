// SPDX-License-Identifier: Apache-2.0
#include "client/search/turning_point.h"

#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/render.h"
#include "client/search/wilson.h"

namespace ktstr::client {

bool TurningPoint::AllFailed(uint32_t at_ms) const {
  const auto found = failures_.find(at_ms);
  return found != failures_.end() && found->second >= forks_;
}

std::optional<uint32_t> TurningPoint::certain_from() const {
  // Stops at a moment with a fork that passed: when all forks failed before it, that was luck.
  std::optional<uint32_t> certain;
  for (auto it = failures_.rbegin(); it != failures_.rend() && it->second >= forks_; ++it)
    certain = it->first;
  return certain;
}

std::optional<uint32_t> TurningPoint::OpenBefore(uint32_t certain) const {
  const auto at = failures_.find(certain);
  if (at == failures_.begin()) return std::nullopt;
  return std::prev(at)->first;
}

std::optional<uint32_t> TurningPoint::Next() const {
  // The two ends first: the moment is between them, if there is one.
  if (failures_.count(first_ms_) == 0) return first_ms_;
  if (AllFailed(first_ms_)) return std::nullopt;
  if (failures_.count(last_ms_) == 0) return last_ms_;
  const std::optional<uint32_t> certain = certain_from();
  if (!certain) return std::nullopt;
  const std::optional<uint32_t> open = OpenBefore(*certain);
  if (!open || *certain - *open <= resolution_ms_) return std::nullopt;
  return *open + (*certain - *open) / 2;
}

std::string TurningPoint::Moment(uint32_t at_ms) const {
  return at_ms == 0 ? "start" : absl::StrCat("+", at_ms, " ms");
}

std::string TurningPoint::TableText() const {
  std::vector<std::vector<std::string>> rows = {{"FORKED AT", "FAILURES"}};
  for (const auto& [at_ms, failures] : failures_)
    rows.push_back({Moment(at_ms), absl::StrCat(failures, " of ", forks_)});
  return Table(rows);
}

std::string TurningPoint::Conclusion() const {
  const std::optional<uint32_t> certain = certain_from();
  const std::string sure =
      absl::StrFormat("all %d forks fail, so at least %.0f %% do with 95 %% confidence", forks_,
                      100 * WilsonInterval(forks_, forks_).low);
  if (!certain) {
    return absl::StrCat("The failure is not certain even when the seed is forked ",
                        Moment(last_ms_),
                        " into the steps, where it was seen: ", forks_ - failures_.at(last_ms_),
                        " of ", forks_, " forks avoid it.");
  }
  if (*certain == first_ms_) {
    return absl::StrCat("The failure is certain from the ",
                        first_ms_ == 0 ? "start: other seeds fail, too" : "earliest moment asked",
                        " (", sure, ").");
  }
  const uint32_t open = *OpenBefore(*certain);
  return absl::StrCat(
      "From ", Moment(*certain), " on the failure is certain (", sure, "); ",
      open == 0 ? "with other seeds from the start" : absl::StrCat("forked at ", Moment(open)),
      ", ", failures_.at(open), " of ", forks_, " fail: what decides it happens between ",
      Moment(open), " and ", Moment(*certain), ".");
}

}  // namespace ktstr::client
