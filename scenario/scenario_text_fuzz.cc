// SPDX-License-Identifier: Apache-2.0
//
// Parses any bytes: the parser must end, and MakeGuestPlan must accept text without problems.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "scenario/parse.h"
#include "scenario/plan.h"
#include "scenario/record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ktstr::scenario::ParseResult result = ktstr::scenario::ParseScenario(text, "f");
  int line = 0;
  for (const ktstr::scenario::Problem& problem : result.problems) {
    if (problem.message.empty() || problem.line < line || problem.column < 1) std::abort();
    line = problem.line;
  }
  if (result.problems.empty()) {
    const bool scheduler = result.scenario.has_scheduler();
    if (!ktstr::scenario::MakeGuestPlan(result.scenario, scheduler ? "bin/s" : "").ok())
      std::abort();
    ktstr::scenario::ScenarioDigest(result.scenario);
  }
  return 0;
}
