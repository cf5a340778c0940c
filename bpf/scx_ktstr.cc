// SPDX-License-Identifier: Apache-2.0
//
// scx_ktstr: the sample scheduler that must pass. Options are in kUsage.
#include <getopt.h>
#include <sysexits.h>

#include <cstdio>

#include "bpf/embed_object.h"
#include "bpf/scheduler.h"

namespace {

constexpr char kUsage[] =
    "Usage: scx_ktstr [--per-llc] [--slice-us N]\n"
    "A first-in, first-out sched_ext scheduler. Runs until SIGINT or SIGTERM.\n"
    "  --per-llc     one queue per last-level cache, with stealing; default: one queue for all "
    "CPUs\n"
    "  --slice-us N  time slice, 100 to 1000000, default 20000\n";

}  // namespace

int main(int argc, char** argv) {
  ktstr::bpf::HoldStopSignals();
  bool per_llc = false;
  unsigned slice_us = 20000;
  const option options[] = {{"per-llc", no_argument, nullptr, 'l'},
                            {"slice-us", required_argument, nullptr, 's'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
  for (int c; (c = getopt_long(argc, argv, "h", options, nullptr)) != -1;) {
    switch (c) {
      case 'l':
        per_llc = true;
        break;
      case 's':
        slice_us = ktstr::bpf::NumberOrExit("scx_ktstr", "slice-us", optarg, 100, 1'000'000);
        break;
      case 'h':
        std::fputs(kUsage, stdout);
        return EX_OK;
      default:
        std::fputs(kUsage, stderr);
        return EX_USAGE;
    }
  }
  if (optind < argc) {
    std::fprintf(stderr, "scx_ktstr: unexpected argument %s\n%s", argv[optind], kUsage);
    return EX_USAGE;
  }
  return ktstr::bpf::RunScheduler({.name = "scx_ktstr",
                                   .object = ktstr::bpf::EmbeddedObject(),
                                   .config = ktstr::bpf::MakeConfig(per_llc, slice_us)});
}
