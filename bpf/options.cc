// SPDX-License-Identifier: Apache-2.0
#include "bpf/options.h"

#include <getopt.h>
#include <sysexits.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace ktstr::bpf {
namespace {

constexpr int kFirst = 256;  // Above all characters that getopt_long returns.

}  // namespace

void ParseOptionsOrExit(const char* program, const char* usage, int argc, char** argv,
                        const std::vector<Option>& options) {
  std::vector<option> table;
  for (const Option& known : options) {
    const int value = kFirst + static_cast<int>(table.size());
    table.push_back(
        {known.name, known.has_value ? required_argument : no_argument, nullptr, value});
  }
  table.push_back({"help", no_argument, nullptr, 'h'});
  table.push_back({});
  for (int c; (c = getopt_long(argc, argv, "h", table.data(), nullptr)) != -1;) {
    if (c >= kFirst) {
      options[static_cast<size_t>(c - kFirst)].take(optarg);
    } else if (c == 'h') {
      std::fputs(usage, stdout);
      std::exit(EX_OK);
    } else {
      std::fputs(usage, stderr);
      std::exit(EX_USAGE);
    }
  }
  if (optind == argc) return;
  std::fprintf(stderr, "%s: unexpected argument %s\n%s", program, argv[optind], usage);
  std::exit(EX_USAGE);
}

unsigned NumberOrExit(const char* program, const char* option, const char* text, unsigned min,
                      unsigned max) {
  char* end = nullptr;
  errno = 0;
  const unsigned long value = std::strtoul(text, &end, 10);
  if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || value < min || value > max) {
    std::fprintf(stderr, "%s: --%s %s: want a number from %u to %u\n", program, option, text, min,
                 max);
    std::exit(EX_USAGE);
  }
  return static_cast<unsigned>(value);
}

}  // namespace ktstr::bpf
