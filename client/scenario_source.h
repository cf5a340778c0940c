// SPDX-License-Identifier: Apache-2.0
//
// From the SCENARIO arguments of a command to scenarios: files, directories and canned names. Any
// thread.

#ifndef KTSTR_CLIENT_SCENARIO_SOURCE_H_
#define KTSTR_CLIENT_SCENARIO_SOURCE_H_

#include <string>
#include <vector>

#include "ktstr/v1/scenario.pb.h"

namespace ktstr::client {

struct SourcedScenario {
  v1::Scenario scenario;
  std::string argument;   // Its name on a command line: a path or a canned name.
  std::string directory;  // Of the file; empty for a canned one.
};

struct SourcedScenarios {
  std::vector<SourcedScenario> scenarios;
  std::vector<std::string> problems;  // "file:line:col: message", or one that names the argument.
};

// A path that exists is a file or a directory (searched in depth for *.ktstr.txtpb, in order of
// names); anything else is a canned name. Reports all problems of all arguments together.
SourcedScenarios LoadScenarios(const std::vector<std::string>& arguments);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SCENARIO_SOURCE_H_
