// SPDX-License-Identifier: Apache-2.0
//
// Scenario files: parses protobuf text format and reports all problems of syntax and meaning at
// once, each with its place. Pure: the caller reads the file. Any thread.

#ifndef KTSTR_SCENARIO_PARSE_H_
#define KTSTR_SCENARIO_PARSE_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "ktstr/v1/scenario.pb.h"
#include "scenario/problem.h"

namespace ktstr::scenario {

inline constexpr size_t kMaxScenarioBytes = size_t{1} << 20;

struct ParseResult {
  v1::Scenario scenario;          // Usable exactly when `problems` is empty.
  std::vector<Problem> problems;  // By place.
};

// ParseText() of scenario/parse_text.h with Validate().
ParseResult ParseScenario(std::string_view text, std::string_view file_name);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_PARSE_H_
