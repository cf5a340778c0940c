// SPDX-License-Identifier: Apache-2.0

#include "scenario/parse.h"

#include <utility>

#include "scenario/parse_text.h"
#include "scenario/validate.h"

namespace ktstr::scenario {

ParseResult ParseScenario(std::string_view text, std::string_view file_name) {
  constexpr TextKind kKind = {"scenario", kMaxScenarioBytes, "at least a name and a step"};
  ParsedText<v1::Scenario> parsed = ParseText<v1::Scenario>(
      text, file_name, kKind, [](const v1::Scenario& scenario) { return Validate(scenario); });
  return {std::move(parsed.value), std::move(parsed.problems)};
}

}  // namespace ktstr::scenario
