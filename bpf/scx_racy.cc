// SPDX-License-Identifier: Apache-2.0
//
// scx_racy: a scheduler with a race, for tests of the search over seeds. Options are in kUsage.
#include "bpf/embed_object.h"
#include "bpf/options.h"
#include "bpf/scheduler.h"

namespace {

using ktstr::bpf::NumberOrExit;
using ktstr::bpf::ParseOptionsOrExit;

constexpr char kName[] = "scx_racy";
constexpr unsigned kMaxWatchdogMs = 30'000;
constexpr char kUsage[] =
    "Usage: scx_racy [--fixed] [--watchdog-ms N]\n"
    "A sched_ext scheduler with a queue per CPU that loses a wake-up when a task is queued for a\n"
    "CPU that goes idle at the same time. Runs until SIGINT or SIGTERM.\n"
    "  --fixed          without the race\n"
    "  --watchdog-ms N  the watchdog's time-out, 10 to 30000, default 30000\n";

}  // namespace

int main(int argc, char** argv) {
  ktstr::bpf::HoldStopSignals();
  fifo_config config = ktstr::bpf::MakeConfig(/*per_llc=*/false, /*slice_us=*/20000);
  config.use_has_work = 1;
  unsigned watchdog_ms = kMaxWatchdogMs;
  ParseOptionsOrExit(kName, kUsage, argc, argv,
                     {{"fixed", [&](const char*) { config.use_has_work = 0; }, false},
                      {"watchdog-ms", [&](const char* value) {
                         watchdog_ms =
                             NumberOrExit(kName, "watchdog-ms", value, 10, kMaxWatchdogMs);
                       }}});
  return ktstr::bpf::RunScheduler({.name = kName,
                                   .object = ktstr::bpf::EmbeddedObject(),
                                   .latest = ktstr::bpf::EmbeddedLatestObject(),
                                   .config = config,
                                   .watchdog_ms = watchdog_ms});
}
