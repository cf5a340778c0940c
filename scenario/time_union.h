// SPDX-License-Identifier: Apache-2.0
//
// Intervals of time that may overlap, and how much of a window they cover together. N intervals
// take N log N steps to add and seal, and a query log N, so that many intervals of a hostile guest
// are no problem. One thread before Seal, any thread after it.

#ifndef KTSTR_SCENARIO_TIME_UNION_H_
#define KTSTR_SCENARIO_TIME_UNION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ktstr::scenario {

// `Time` is an unsigned number; a test uses a type that counts its operations.
template <typename Time = uint64_t>
class TimeUnion {
 public:
  // [from, to); nothing when `to` is not above `from`.
  void Add(Time from, Time to) {
    if (from < to) parts_.push_back({from, to, Time{}});
  }

  // After the last Add, before the first In. Time that `others` covers does not count here;
  // `others` is sealed and outlives this object.
  void Seal(const TimeUnion* others = nullptr) {
    others_ = others;
    std::sort(parts_.begin(), parts_.end(),
              [](const Part& a, const Part& b) { return a.from < b.from; });
    std::vector<Part> merged;
    for (const Part& part : parts_) {
      if (!merged.empty() && !(merged.back().to < part.from)) {
        if (merged.back().to < part.to) merged.back().to = part.to;
      } else {
        merged.push_back(part);
      }
    }
    parts_ = std::move(merged);
    Time sum{};
    for (Part& part : parts_) {
      part.before = sum;
      sum = sum + Own(part.from, part.to);
    }
  }

  // Covered time of [from, to).
  Time In(Time from, Time to) const {
    if (!(from < to)) return Time{};
    return Until(to) - Until(from);
  }

 private:
  struct Part {
    Time from, to;
    Time before;  // Covered time of the parts before it.
  };

  Time Own(Time from, Time to) const {
    const Time length = to - from;
    return others_ == nullptr ? length : length - others_->In(from, to);
  }

  Time Until(Time end) const {
    auto it = std::lower_bound(parts_.begin(), parts_.end(), end,
                               [](const Part& part, Time at) { return part.from < at; });
    if (it == parts_.begin()) return Time{};
    --it;
    return it->before + Own(it->from, it->to < end ? it->to : end);
  }

  std::vector<Part> parts_;  // After Seal: ascending and apart.
  const TimeUnion* others_ = nullptr;
};

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_TIME_UNION_H_
