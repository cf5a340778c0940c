// SPDX-License-Identifier: Apache-2.0
//
// Scenario files: protobuf text format -> Scenario, with every problem of syntax and of meaning at
// its place, all in one go. Pure: the caller reads the file.

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
  std::vector<Problem> problems;  // In the order of their places.
};

// `file_name` goes into the problems as it is. After a field with a wrong value the parser skips
// that field and goes on; where the structure itself is broken (an unclosed brace) it stops, and
// meaning is not judged.
ParseResult ParseScenario(std::string_view text, std::string_view file_name);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_PARSE_H_
