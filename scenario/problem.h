// SPDX-License-Identifier: Apache-2.0
//
// An error in a text that a user wrote (a scenario, the daemon's configuration), with its place.
// The parser and the validators make it.

#ifndef KTSTR_SCENARIO_PROBLEM_H_
#define KTSTR_SCENARIO_PROBLEM_H_

#include <string>

namespace ktstr::scenario {

struct Problem {
  std::string file;   // As the caller named it; empty when the text is not from a file.
  int line = 0;       // From 1; 0: not tied to a place in the file.
  int column = 0;     // From 1; a tab counts to the next multiple of 8, as in protobuf's tokenizer.
  std::string field;  // "step[0].cgroup[1].cpuset"; empty for a problem of syntax or of the whole.
  std::string message;  // One line: what is wrong, the value, the remedy.

  // "file:line:col: message"; without a place "file: message"; without a file "field: message".
  std::string ToString() const;
};

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_PROBLEM_H_
