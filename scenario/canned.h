// SPDX-License-Identifier: Apache-2.0
//
// Scenarios that are built into the programs: a first test needs no file, and users copy them as
// examples.

#ifndef KTSTR_SCENARIO_CANNED_H_
#define KTSTR_SCENARIO_CANNED_H_

#include <string_view>

#include "absl/types/span.h"

namespace ktstr::scenario {

struct CannedScenario {
  std::string_view name;
  std::string_view description;
  std::string_view text;  // A whole scenario file; its name and description are those above.
};

// In the order of `list scenarios`. None names a scheduler: the command line does.
absl::Span<const CannedScenario> CannedScenarios();
// Null when none has that name.
const CannedScenario* FindCanned(std::string_view name);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_CANNED_H_
