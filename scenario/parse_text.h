// SPDX-License-Identifier: Apache-2.0
//
// Files in protobuf text format that people write (scenarios, the daemon's configuration): parses
// them and reports all problems of syntax and meaning at once, each with its place. Pure: the
// caller reads the file. Any thread.

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

// The kind of file. The strings outlive the call.
struct TextKind {
  std::string_view noun;   // "scenario"
  size_t max_bytes;        // A longer text is a problem.
  std::string_view needs;  // What an empty text lacks; empty: a text may be empty.
};

template <typename T>
struct ParsedText {
  T value;                        // Usable exactly when `problems` is empty.
  std::vector<Problem> problems;  // By place.
};

// ParseText() for any message.
std::vector<Problem> ParseTextInto(std::string_view text, std::string_view file_name,
                                   const TextKind& kind, google::protobuf::Message* message,
                                   const std::function<std::vector<Problem>()>& validate);

// `file_name` is for the problems. The parser skips a field with a wrong value and goes on. Where
// the structure is broken (an unclosed brace) it stops, and does not call `validate`, which judges
// the meaning. A problem of `validate` names a field ("step[0].cgroup[1].cpuset") and gets the
// place of that field.
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
