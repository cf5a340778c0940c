// SPDX-License-Identifier: Apache-2.0
//
// scx_racy: a scheduler with a race, for tests of the search over seeds. Options are in kUsage.
#include <getopt.h>
#include <sysexits.h>

#include <cstdio>

#include "bpf/embed_object.h"
#include "bpf/scheduler.h"

namespace {

constexpr unsigned kMaxWatchdogMs = 30'000;
constexpr char kUsage[] =
    "Usage: scx_racy [--fixed] [--watchdog-ms N]\n"
    "A sched_ext scheduler with a queue per CPU that loses a wake-up when a task is queued for a\n"
    "CPU that falls asleep in the same moment. Runs until SIGINT or SIGTERM.\n"
    "  --fixed          without the race\n"
    "  --watchdog-ms N  the watchdog's patience, 10 to 30000, default 30000\n";

}  // namespace

int main(int argc, char** argv) {
  ktstr::bpf::HoldStopSignals();
  fifo_config config = ktstr::bpf::MakeConfig(/*per_llc=*/false, /*slice_us=*/20000);
  config.use_has_work = 1;
  unsigned watchdog_ms = kMaxWatchdogMs;
  const option options[] = {{"fixed", no_argument, nullptr, 'f'},
                            {"watchdog-ms", required_argument, nullptr, 'w'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
  for (int c; (c = getopt_long(argc, argv, "h", options, nullptr)) != -1;) {
    switch (c) {
      case 'f':
        config.use_has_work = 0;
        break;
      case 'w':
        watchdog_ms =
            ktstr::bpf::NumberOrExit("scx_racy", "watchdog-ms", optarg, 10, kMaxWatchdogMs);
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
    std::fprintf(stderr, "scx_racy: unexpected argument %s\n%s", argv[optind], kUsage);
    return EX_USAGE;
  }
  return ktstr::bpf::RunScheduler({.name = "scx_racy",
                                   .object = ktstr::bpf::EmbeddedObject(),
                                   .config = config,
                                   .watchdog_ms = watchdog_ms});
}
