// SPDX-License-Identifier: Apache-2.0
//
// How long workers must run before a check can be judged. A correct scheduler may place workers
// badly at first; after this time it must have evened that out. Internal to the evaluation;
// docs/scenarios.md explains the numbers to users.

#ifndef KTSTR_SCENARIO_ENOUGH_TIME_H_
#define KTSTR_SCENARIO_ENOUGH_TIME_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "scenario/checks.h"
#include "scenario/facts.h"

namespace ktstr::scenario {

// Nanoseconds that it takes to judge a share with a threshold in percentage points: 250 ms are that
// percentage of them. Thresholds below 1 count as 1.
uint64_t TimeForShare(double threshold_pct);

// Nanoseconds after which a worker must have run: 250 ms, plus a default slice of sched_ext (20 ms)
// for each worker on its CPU; `outweighed` times as long when the heaviest worker on the same CPUs
// has that many times its weight.
uint64_t TimeForTurn(double workers_per_cpu, double outweighed);

// The finding TOO_SHORT: `had_ns` is too short a time to judge `check`. `seen` is what was
// measured, or "".
Candidate MakeTooShort(const Check& check, std::string where, uint64_t had_ns, uint64_t needed_ns,
                       const std::string& seen, size_t order);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_ENOUGH_TIME_H_
