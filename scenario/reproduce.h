// SPDX-License-Identifier: Apache-2.0
//
// A Reproduction as a command line. Pure; any thread.

#ifndef KTSTR_SCENARIO_REPRODUCE_H_
#define KTSTR_SCENARIO_REPRODUCE_H_

#include <string>
#include <string_view>

#include "ktstr/v1/run.pb.h"

namespace ktstr::scenario {

// One word for a POSIX shell: unchanged where no quotes are needed, else in single quotes.
std::string ShellWord(std::string_view text);

// "ktstrctl run …", on one line unless an argument holds a newline. Empty when the reproduction
// names no scenario.
std::string ReproduceCommand(const v1::Reproduction& reproduction);

// Gives the record `run` and its command line, with the kernel that ran where `run` names none.
// Nothing when `run` names no scenario.
void SetReproduction(v1::Reproduction run, v1::RunRecord* record);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_REPRODUCE_H_
