// SPDX-License-Identifier: Apache-2.0

#include "scenario/enough_time.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/string_view.h"

namespace ktstr::scenario {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
// EEVDF on an idle guest of 4 CPUs kept two workers on one CPU for up to 74 ms in 120 seeds.
constexpr double kSettleNs = 250 * kNsPerMs;
constexpr double kSliceNs = 20 * kNsPerMs;

}  // namespace

uint64_t TimeForShare(double threshold_pct) {
  return static_cast<uint64_t>(kSettleNs * 100 / std::max(threshold_pct, 1.0));
}

// EEVDF did not run workers of weight 100 beside others of weight 1000 for 1.1 s.
uint64_t TimeForTurn(double workers_per_cpu, double outweighed) {
  return static_cast<uint64_t>((kSettleNs + kSliceNs * workers_per_cpu) * outweighed);
}

Candidate MakeTooShort(const Check& check, std::string where, uint64_t had_ns, uint64_t needed_ns,
                       const std::string& seen, size_t order) {
  Candidate candidate(FindingKind::kTooShort, std::move(where), order);
  const std::string had = absl::StrCat(had_ns / kNsPerMs, "ms");
  const std::string needed = absl::StrCat((needed_ns + kNsPerMs - 1) / kNsPerMs, "ms");
  candidate.finding.set_message(absl::StrCat(base::ToAbsl(check.field), " cannot be judged: the ",
                                             "workers ran for ", had, ", and it takes ", needed,
                                             seen.empty() ? "" : "; ", seen));
  candidate.finding.set_observed(had);
  candidate.finding.set_threshold(needed);
  candidate.may_follow = true;
  return candidate;
}

}  // namespace ktstr::scenario
