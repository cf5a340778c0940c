// SPDX-License-Identifier: Apache-2.0
//
// What a scheduler's output says of its end. Schedulers print as libbpf, the kernel's examples
// (UEI_REPORT) and Rust's libraries (scx_utils, anyhow, log) do. Everything here is text of an
// untrusted program; what is quoted is one line that fits a finding (OneLine).

#ifndef KTSTR_SCENARIO_SCHEDULER_OUTPUT_H_
#define KTSTR_SCENARIO_SCHEDULER_OUTPUT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace ktstr::scenario {

// The last line that begins with `prefix`; empty when there is none.
std::string LastLine(const std::string& output, absl::string_view prefix);

// The exit message of a scheduler that ended for `reason`; empty when there is none. Kernels print
// the message only for errors; libraries of schedulers print it always (UEI_REPORT, scx_utils):
//   EXIT: REASON (MESSAGE)
//   EXIT: REASON (MESSAGE) on CPU N     where the kernel tells the CPU
std::string ExitMessage(const std::string& output, absl::string_view reason);

struct Rejection {
  std::string program;
  std::string reason;
};

// The first program that the verifier refused, as libbpf prints its log. The reason is the last
// line of the log before the statistics and before the explanation that kernels from 7.3 on add.
std::optional<Rejection> FindRejection(const std::string& output);

// The first line that says that the kernel had no memory for what the scheduler asked for: ENOMEM
// as libbpf prints it ("-ENOMEM", or in words before libbpf 1.6) or as Rust's libraries do.
std::string NoMemoryLine(const std::string& output);

// Whether a line, other than of information, says EINVAL as libbpf, Rust's or C's libraries do.
bool HasInvalidArgument(const std::string& output);

// The first error or panic with its causes, else the first cause of libbpf, in what follows the
// last exit message; empty when there is none, or no exit message.
std::string ErrorAfterExit(const std::string& output);

// "; its output: LINE" with the line that best explains the end: the first cause of libbpf, else
// the first error or panic with its causes, else the last line before a usage text. Else "; its
// last output: LINE", the last line that a logger does not mark as information, or with
// `even_information` the last one that is not empty. Else "".
std::string QuoteOutput(const std::string& output, bool even_information);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_SCHEDULER_OUTPUT_H_
