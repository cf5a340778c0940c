// SPDX-License-Identifier: Apache-2.0
//
// scx_ktstr: the sample scheduler that must pass. Options are in kUsage.
#include "bpf/embed_object.h"
#include "bpf/options.h"
#include "bpf/scheduler.h"

namespace {

using ktstr::bpf::NumberOrExit;
using ktstr::bpf::ParseOptionsOrExit;

constexpr char kName[] = "scx_ktstr";
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
  ParseOptionsOrExit(kName, kUsage, argc, argv,
                     {{"per-llc", [&](const char*) { per_llc = true; }, false},
                      {"slice-us", [&](const char* value) {
                         slice_us = NumberOrExit(kName, "slice-us", value, 100, 1'000'000);
                       }}});
  return ktstr::bpf::RunScheduler({.name = kName,
                                   .object = ktstr::bpf::EmbeddedObject(),
                                   .latest = ktstr::bpf::EmbeddedLatestObject(),
                                   .config = ktstr::bpf::MakeConfig(per_llc, slice_us)});
}
