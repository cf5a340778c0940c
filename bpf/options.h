// SPDX-License-Identifier: Apache-2.0
//
// Command lines of the sample schedulers. These functions report an invalid option on stderr, and
// exit with 64 (EX_USAGE). Single thread, before anything else runs.

#ifndef BPF_OPTIONS_H_
#define BPF_OPTIONS_H_

#include <functional>
#include <vector>

namespace ktstr::bpf {

struct Option {
  const char* name;                       // Without the dashes.
  std::function<void(const char*)> take;  // Its value; null for one without.
  bool has_value = true;
};

// Takes the options in their order. `--help` and `-h` print `usage` and exit with 0; an unknown
// option, a missing value and anything that is no option exit with 64.
void ParseOptionsOrExit(const char* program, const char* usage, int argc, char** argv,
                        const std::vector<Option>& options);

// A decimal number of `option` in [min, max].
unsigned NumberOrExit(const char* program, const char* option, const char* text, unsigned min,
                      unsigned max);

}  // namespace ktstr::bpf

#endif  // BPF_OPTIONS_H_
