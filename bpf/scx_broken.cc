// SPDX-License-Identifier: Apache-2.0
//
// scx_broken: the scheduler of scx_ktstr with one fault, chosen by argument, for the harness's own
// tests. Options are in kUsage.
#include <getopt.h>
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "bpf/embed_object.h"
#include "bpf/scheduler.h"

namespace {

using ktstr::bpf::NumberOrExit;

constexpr char kName[] = "scx_broken";
constexpr unsigned kMaxMs = 3'600'000;
constexpr char kUsage[] =
    "Usage: scx_broken [--watchdog-ms N] [FAULT]\n"
    "scx_ktstr with a fault. Times count from the moment it is enabled.\n"
    "  --stall-after-ms N   stops dispatching; the kernel's watchdog ejects it\n"
    "  --starve-cpu N       tasks queued for CPU N never run; the watchdog ejects it\n"
    "  --error-after-ms N   calls scx_bpf_error()\n"
    "  --exit-at-start      exits with code 1 before it loads anything\n"
    "  --signal-after-ms N  dies by SIGSEGV\n"
    "  --verifier-reject    has a program that the verifier refuses\n"
    "  --never-attach       runs, but never becomes the scheduler\n"
    "  --print-forever      writes lines to stdout without end\n"
    "  --watchdog-ms N      the watchdog's patience, 10 to 30000, default 1000\n";

enum Fault : int {
  kStall = 256,
  kStarve,
  kError,
  kExit,
  kSignal,
  kReject,
  kNeverAttach,
  kPrint,
  kWatchdog,
};

struct Options {
  fifo_config config = ktstr::bpf::MakeConfig(/*per_llc=*/false, /*slice_us=*/20000);
  unsigned watchdog_ms = 1000;
  unsigned signal_after_ms = 0;  // 0: never
  bool exit_at_start = false;
  bool never_attach = false;
  bool print_forever = false;
};

uint64_t Milliseconds(const char* option, const char* text) {
  return NumberOrExit(kName, option, text, 1, kMaxMs) * uint64_t{1'000'000};
}

unsigned LastCpu() {
  const long cpus = std::clamp(sysconf(_SC_NPROCESSORS_CONF), 1L, long{FIFO_MAX_CPUS});
  return static_cast<unsigned>(cpus) - 1;
}

// Empty, and a message is printed, if the arguments make no sense; exits by itself on --help.
std::optional<Options> ParseArguments(int argc, char** argv) {
  const option table[] = {{"stall-after-ms", required_argument, nullptr, kStall},
                          {"starve-cpu", required_argument, nullptr, kStarve},
                          {"error-after-ms", required_argument, nullptr, kError},
                          {"exit-at-start", no_argument, nullptr, kExit},
                          {"signal-after-ms", required_argument, nullptr, kSignal},
                          {"verifier-reject", no_argument, nullptr, kReject},
                          {"never-attach", no_argument, nullptr, kNeverAttach},
                          {"print-forever", no_argument, nullptr, kPrint},
                          {"watchdog-ms", required_argument, nullptr, kWatchdog},
                          {"help", no_argument, nullptr, 'h'},
                          {}};
  Options out;
  int index = 0;
  for (int c; (c = getopt_long(argc, argv, "h", table, &index)) != -1;) {
    switch (c) {
      case kStall:
        out.config.stall_after_ns = Milliseconds(table[index].name, optarg);
        break;
      case kStarve:
        out.config.starve_cpu = NumberOrExit(kName, table[index].name, optarg, 0, LastCpu());
        break;
      case kError:
        out.config.error_after_ns = Milliseconds(table[index].name, optarg);
        break;
      case kExit:
        out.exit_at_start = true;
        break;
      case kSignal:
        out.signal_after_ms = NumberOrExit(kName, table[index].name, optarg, 1, kMaxMs);
        break;
      case kReject:
        out.config.verifier_reject = 1;
        break;
      case kNeverAttach:
        out.never_attach = true;
        break;
      case kPrint:
        out.print_forever = true;
        break;
      case kWatchdog:
        out.watchdog_ms = NumberOrExit(kName, table[index].name, optarg, 10, 30'000);
        break;
      case 'h':
        std::fputs(kUsage, stdout);
        std::exit(EX_OK);
      default:
        std::fputs(kUsage, stderr);
        return std::nullopt;
    }
  }
  if (optind < argc) {
    std::fprintf(stderr, "%s: unexpected argument %s\n%s", kName, argv[optind], kUsage);
    return std::nullopt;
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  ktstr::bpf::HoldStopSignals();
  const std::optional<Options> options = ParseArguments(argc, argv);
  if (!options.has_value()) return EX_USAGE;
  if (options->exit_at_start) {
    std::fprintf(stderr, "%s: exits at start, as told by --exit-at-start\n", kName);
    return EXIT_FAILURE;
  }
  if (options->never_attach) {
    std::printf("%s: runs without attaching, as told by --never-attach\n", kName);
    std::fflush(stdout);
    ktstr::bpf::TakeStopSignal(-1);
    return EXIT_SUCCESS;
  }
  unsigned long line = 0;
  return ktstr::bpf::RunScheduler(
      {.name = kName,
       .object = ktstr::bpf::EmbeddedObject(),
       .config = options->config,
       .watchdog_ms = options->watchdog_ms,
       .while_enabled =
           [&](unsigned elapsed_ms) {
             if (options->print_forever) {
               std::printf("%s: line %lu of the endless output\n", kName, line++);
             }
             if (options->signal_after_ms != 0 && elapsed_ms >= options->signal_after_ms) {
               raise(SIGSEGV);
             }
           },
       .busy = options->print_forever});
}
