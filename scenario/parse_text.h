// SPDX-License-Identifier: Apache-2.0
//
// Files in protobuf text format that people write: text -> message, with every problem of syntax
// and of meaning at its place, all in one go. Scenarios and the daemon's configuration are read by
// it. Pure: the caller reads the file.

#ifndef KTSTR_SCENARIO_PARSE_TEXT_H_
#define KTSTR_SCENARIO_PARSE_TEXT_H_

#include <google/protobuf/message.h>

#include <cstddef>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "scenario/problem.h"

namespace ktstr::scenario {

// What the text is, for messages. The strings outlive the call.
struct TextKind {
  std::string_view noun;   // "scenario"
  size_t max_bytes;        // A longer text is refused.
  std::string_view needs;  // What is missing in an empty text; empty: it may be empty.
};

template <typename T>
struct ParsedText {
  T value;                        // Usable exactly when `problems` is empty.
  std::vector<Problem> problems;  // In the order of their places.
};

// ParseText() for any message.
std::vector<Problem> ParseTextInto(std::string_view text, std::string_view file_name,
                                   const TextKind& kind, google::protobuf::Message* message,
                                   const std::function<std::vector<Problem>()>& validate);

// `file_name` goes into the problems as it is. After a field with a wrong value the parser skips
// that field and goes on; where the structure itself is broken (an unclosed brace) it stops, and
// `validate`, which judges the meaning, is not asked. Problems of `validate` name a field
// ("step[0].cgroup[1].cpuset"), and get the field's place.
template <typename T, typename Validate>
ParsedText<T> ParseText(std::string_view text, std::string_view file_name, const TextKind& kind,
                        Validate validate) {
  ParsedText<T> parsed;
  parsed.problems = ParseTextInto(text, file_name, kind, &parsed.value,
                                  [&] { return validate(std::as_const(parsed.value)); });
  return parsed;
}

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_PARSE_TEXT_H_
