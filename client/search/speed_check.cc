// SPDX-License-Identifier: Apache-2.0
#include "client/search/speed_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/search/wilson.h"
#include "scenario/confirm.h"

namespace ktstr::client {
namespace {

constexpr double kChance = 0.05;
constexpr uint64_t kLeastRuns = 4;

// Seeds to try, in order.
std::vector<uint64_t> SeedsToTry(const Suspect& suspect, const SeedRange& range, uint64_t count) {
  std::vector<uint64_t> seeds(suspect.seeds.begin(),
                              suspect.seeds.begin() + static_cast<int64_t>(std::min<uint64_t>(
                                                          count, suspect.seeds.size())));
  const std::set<uint64_t> shown(seeds.begin(), seeds.end());
  for (uint64_t seed = range.first; seeds.size() < count; ++seed) {
    if (seed != 0 && shown.count(seed) == 0) seeds.push_back(seed);
  }
  return seeds;
}

bool Shows(const v1::RunRecord& record, const std::string& kind) {
  return std::any_of(
      record.findings().begin(), record.findings().end(),
      [&](const v1::Finding& finding) { return finding.kind() == kind && !finding.consequence(); });
}

}  // namespace

uint64_t SpeedCheckRuns(const Suspect& suspect) {
  const double low = WilsonInterval(suspect.seeds.size(), suspect.runs).low;
  if (low >= 1) return kLeastRuns;
  if (low <= 0) return std::numeric_limits<uint64_t>::max();
  const double runs = std::ceil(std::log(kChance) / std::log1p(-low));
  return std::max(kLeastRuns, static_cast<uint64_t>(std::min(runs, 1e9)));
}

absl::StatusOr<SpeedCheck> CheckSpeed(const Suspect& suspect, const v1::RunSpec& spec,
                                      const SeedRange& seeds, Trials* trials) {
  SpeedCheck check;
  const std::optional<uint32_t> speed =
      scenario::ConfirmingSpeed(spec.scenario(), suspect.vcpu_mips);
  if (!speed.has_value()) return check;
  check.needed = SpeedCheckRuns(suspect);
  const std::vector<uint64_t> all =
      SeedsToTry(suspect, seeds, std::min(check.needed, kMaxSpeedCheckRuns));
  for (size_t at = 0; at < all.size() && check.shown == 0;) {
    std::vector<v1::RunSpec> batch;
    for (; at < all.size() && batch.size() < std::min<size_t>(trials->jobs(), 4); ++at) {
      v1::RunSpec& run = batch.emplace_back(spec);
      run.mutable_scenario()->set_seed(all[at]);
      run.mutable_scenario()->set_vcpu_mips(*speed);
      run.mutable_reproduction()->set_seed(all[at]);
      run.mutable_reproduction()->set_vcpu_mips(*speed);
    }
    KTSTR_ASSIGN_OR_RETURN(
        const std::vector<v1::RunRecord> records,
        trials->Run(std::move(batch),
                    absl::StrCat("looking for ", suspect.key.PlaceText(), " at ", *speed,
                                 " MIPS a CPU, ", check.runs, " of ", all.size(), " runs made")));
    for (const v1::RunRecord& record : records) {
      if (record.verdict() != v1::PASS && record.verdict() != v1::FAIL) continue;
      ++check.runs;
      check.vcpu_mips = record.vcpu_mips();
      if (!Shows(record, suspect.key.kind)) continue;
      if (check.shown++ > 0) continue;
      check.seed = record.variant().seed();
      check.run_id = record.run_id();
    }
  }
  return check;
}

}  // namespace ktstr::client
