// SPDX-License-Identifier: Apache-2.0
//
// Rounds of a test over all faults of faults.h: each kind of fault at call 1, 2, ... until the
// operation ends before the fault strikes. Prints how many steps each path has.

#ifndef KTSTR_BASE_TESTING_FAULT_ROUNDS_H_
#define KTSTR_BASE_TESTING_FAULT_ROUNDS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/testing/faults.h"

namespace ktstr::base {

// Faults that a call reports to its caller, and faults that end the process or the machine.
inline constexpr Fault kErrorFaults[] = {Fault::kNoSpace, Fault::kIo, Fault::kNoDescriptors,
                                         Fault::kInterrupted, Fault::kShort};
inline constexpr Fault kEndFaults[] = {Fault::kKill, Fault::kPowerCut, Fault::kPowerCutNamesStay,
                                       Fault::kPowerCutSizesStay, Fault::kPowerCutContentStays};

// EINTR and a short read or write: the caller repeats the call, and nobody else notices.
bool Harmless(Fault fault);

// "PATH, FAULT at step N", to stand in front of an expectation's values.
std::string Where(std::string_view path, Fault fault, uint64_t n);

// Prints "PATH, FAULT: STEPS steps".
void ReportSteps(std::string_view path, Fault fault, bool lasting, uint64_t steps);

// Calls `round(fault, lasting, n)` for each of kErrorFaults, once and lasting (harmless ones: once
// only), for n = 1, 2, ... until it returns false: the n-th call did not come. Returns in how many
// kinds of rounds the fault struck at least once, and reports the steps.
int EachError(std::string_view path, const std::function<bool(Fault, bool, uint64_t)>& round);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_TESTING_FAULT_ROUNDS_H_
