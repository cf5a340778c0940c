// SPDX-License-Identifier: Apache-2.0
//
// scx_broken: the scheduler of scx_ktstr with one fault, chosen by argument, for the harness's own
// tests. Options are in kUsage.
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/reboot.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <type_traits>
#include <utility>
#include <vector>

#include "bpf/embed_object.h"
#include "bpf/options.h"
#include "bpf/scheduler.h"

namespace {

using ktstr::bpf::NumberOrExit;
using ktstr::bpf::Option;

constexpr char kName[] = "scx_broken";
constexpr unsigned kMaxMs = 3'600'000;
constexpr char kUsage[] =
    "Usage: scx_broken [--watchdog-ms N] [FAULT]\n"
    "scx_ktstr with a fault. Times count from the moment it is enabled.\n"
    "  --stall-after-ms N   stops dispatching; the kernel's watchdog ejects it\n"
    "  --starve-cpu N       tasks queued for CPU N never run; the watchdog ejects it\n"
    "  --error-after-ms N   calls scx_bpf_error()\n"
    "  --error-text TEXT    is part of that error's message, at most 62 bytes\n"
    "  --fail-init-task     fails each fork with ENOMEM\n"
    "  --eat-memory         uses up the guest's memory once it is enabled\n"
    "  --eat-at-start       uses it up before it loads anything\n"
    "  --large-map          has a map that the guest's memory has no room for\n"
    "  --exit-at-start      exits with code 1 before it loads anything\n"
    "  --signal-after-ms N  dies by SIGSEGV\n"
    "  --verifier-reject    has a program that the verifier refuses\n"
    "  --never-attach       runs, but never becomes the scheduler\n"
    "  --print-forever      writes lines to stdout without end\n"
    "  --kernel-log TEXT    writes a line to /dev/kmsg and to stdout once it is enabled\n"
    "  --sysrq KEY          writes KEY to /proc/sysrq-trigger: c (crash), b (reboot), o (off)\n"
    "  --hog-cpus           real-time processes take all CPUs, and nothing else runs\n"
    "  --halt               stops all CPUs for ever\n"
    "  --hang-after-done    once a CPU goes offline, a real-time process takes CPU 0\n"
    "  --ignore-stop        ignores SIGINT and SIGTERM\n"
    "  --stop-code N        ends with this exit code, 1 to 255, when it is stopped\n"
    "  --restart-after-ms N loads again, N ms after a CPU came or went\n"
    "  --watchdog-ms N      the watchdog's time-out, 10 to 30000, default 1000\n";

struct Options {
  fifo_config config = ktstr::bpf::MakeConfig(/*per_llc=*/false, /*slice_us=*/20000);
  unsigned watchdog_ms = 1000;
  unsigned signal_after_ms = 0;  // 0: never
  bool eat_memory = false;
  bool eat_at_start = false;
  bool large_map = false;
  bool exit_at_start = false;
  bool never_attach = false;
  bool print_forever = false;
  const char* kernel_log = nullptr;
  const char* sysrq = nullptr;
  bool hog_cpus = false;
  bool halt = false;
  bool hang_after_done = false;
  bool ignore_stop = false;
  unsigned stop_code = 0;
  int restart_after_ms = -1;  // Never.
};

uint64_t Milliseconds(const char* option, const char* text) {
  return NumberOrExit(kName, option, text, 1, kMaxMs) * uint64_t{1'000'000};
}

unsigned LastCpu() {
  const long cpus = std::clamp(sysconf(_SC_NPROCESSORS_CONF), 1L, long{FIFO_MAX_CPUS});
  return static_cast<unsigned>(cpus) - 1;
}

void TakeErrorText(const char* value, fifo_config* config) {
  const int size = std::snprintf(config->error_text, sizeof(config->error_text), " %s", value);
  if (size < static_cast<int>(sizeof(config->error_text))) return;
  std::fprintf(stderr, "%s: --error-text: %d bytes, at most %zu\n", kName, size - 1,
               sizeof(config->error_text) - 2);
  std::exit(EX_USAGE);
}

// Unblocks the signals: the kernel keeps one that is blocked, even when it is ignored.
void IgnoreStopSignals() {
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

Options ParseArguments(int argc, char** argv) {
  Options out;
  fifo_config& config = out.config;
  const auto milliseconds = [](const char* name, auto* to) {
    return Option{name, [name, to](const char* value) { *to = Milliseconds(name, value); }};
  };
  const auto flag = [](const char* name, auto* to) {
    return Option{name, [to](const char*) { *to = true; }, false};
  };
  const auto text = [](const char* name, const char** to) {
    return Option{name, [to](const char* value) { *to = value; }};
  };
  const auto number = [](const char* name, auto* to, unsigned min, unsigned max) {
    return Option{name, [=](const char* value) {
                    *to = static_cast<std::decay_t<decltype(*to)>>(
                        NumberOrExit(kName, name, value, min, max));
                  }};
  };
  ktstr::bpf::ParseOptionsOrExit(
      kName, kUsage, argc, argv,
      {milliseconds("stall-after-ms", &config.stall_after_ns),
       number("starve-cpu", &config.starve_cpu, 0, LastCpu()),
       milliseconds("error-after-ms", &config.error_after_ns),
       Option{"error-text", [&config](const char* value) { TakeErrorText(value, &config); }},
       flag("fail-init-task", &config.fail_init_task),
       flag("eat-memory", &out.eat_memory),
       flag("eat-at-start", &out.eat_at_start),
       flag("large-map", &out.large_map),
       flag("exit-at-start", &out.exit_at_start),
       number("signal-after-ms", &out.signal_after_ms, 1, kMaxMs),
       flag("verifier-reject", &config.verifier_reject),
       flag("never-attach", &out.never_attach),
       flag("print-forever", &out.print_forever),
       text("kernel-log", &out.kernel_log),
       text("sysrq", &out.sysrq),
       flag("hog-cpus", &out.hog_cpus),
       flag("halt", &out.halt),
       flag("hang-after-done", &out.hang_after_done),
       flag("ignore-stop", &out.ignore_stop),
       number("stop-code", &out.stop_code, 1, 255),
       number("restart-after-ms", &out.restart_after_ms, 0, kMaxMs),
       number("watchdog-ms", &out.watchdog_ms, 10, 30'000)});
  return out;
}

// One attempt: these are faults on purpose, and a guest that survives them shows in the verdict.
void WriteTo(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, std::strlen(text)) < 0) std::perror(path);
  if (fd >= 0) close(fd);
}

// The kernel's buckets of such a map take 2 GiB.
void EnlargeMap(bpf_object* object) {
  bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "never_filled"), 1U << 27);
}

// Until the kernel kills this process.
void EatMemory() {
  constexpr size_t kPiece = 1 << 20;
  std::deque<std::vector<char>> pieces;
  while (true) pieces.emplace_back(kPiece, 1);
}

// Takes a CPU; ends only on an error.
void HogCpu(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_param priority{};
  priority.sched_priority = sched_get_priority_max(SCHED_FIFO);
  if (sched_setaffinity(0, sizeof(set), &set) != 0 ||
      sched_setscheduler(0, SCHED_FIFO, &priority) != 0) {
    std::perror("hog");
    _exit(EXIT_FAILURE);
  }
  for (volatile unsigned turns = 0;;) turns = turns + 1;
}

void HogCpus() {
  for (unsigned cpu = 0; cpu <= LastCpu(); ++cpu) {
    if (fork() == 0) HogCpu(cpu);
  }
}

// The agent takes CPUs offline when it has reported DONE.
void HogOnceACpuIsOffline() {
  if (fork() != 0) return;
  setsid();
  close_range(STDERR_FILENO + 1, ~0U, 0);  // Else the scheduler stays attached when it stops.
  while (sysconf(_SC_NPROCESSORS_ONLN) == sysconf(_SC_NPROCESSORS_CONF)) usleep(1000);
  HogCpu(0);
}

// The faults that come as soon as the scheduler is enabled.
void FailAtOnce(const Options& options) {
  if (options.kernel_log != nullptr) {
    std::printf("%s\n", options.kernel_log);
    std::fflush(stdout);
    WriteTo("/dev/kmsg", options.kernel_log);
  }
  if (options.hog_cpus || options.hang_after_done) {
    WriteTo("/proc/sys/kernel/sched_rt_runtime_us", "-1");  // Else other tasks get 5 %.
  }
  if (options.eat_memory) EatMemory();
  if (options.hog_cpus) HogCpus();
  if (options.hang_after_done) HogOnceACpuIsOffline();
  if (options.halt) reboot(RB_HALT_SYSTEM);
  if (options.sysrq != nullptr) WriteTo("/proc/sysrq-trigger", options.sysrq);
}

}  // namespace

int main(int argc, char** argv) {
  ktstr::bpf::HoldStopSignals();
  const Options options = ParseArguments(argc, argv);
  if (options.eat_at_start) EatMemory();
  if (options.exit_at_start) {
    std::fprintf(stderr, "%s: exits at start, as told by --exit-at-start\n", kName);
    return EXIT_FAILURE;
  }
  if (options.never_attach) {
    std::printf("%s: runs without attaching, as told by --never-attach\n", kName);
    std::fflush(stdout);
    ktstr::bpf::TakeStopSignal(-1);
    return EXIT_SUCCESS;
  }
  if (options.ignore_stop) IgnoreStopSignals();
  unsigned long line = 0;
  bool failed = false;
  const int code = ktstr::bpf::RunScheduler(
      {.name = kName,
       .object = ktstr::bpf::EmbeddedObject(),
       .latest = ktstr::bpf::EmbeddedLatestObject(),
       .config = options.config,
       .watchdog_ms = options.watchdog_ms,
       .before_load = options.large_map ? EnlargeMap : nullptr,
       .while_enabled =
           [&](unsigned elapsed_ms) {
             if (!std::exchange(failed, true)) FailAtOnce(options);
             if (options.print_forever) {
               std::printf("%s: line %lu of the endless output\n", kName, line++);
             }
             if (options.signal_after_ms != 0 && elapsed_ms >= options.signal_after_ms) {
               raise(SIGSEGV);
             }
           },
       .busy = options.print_forever,
       .restart_after_ms = options.restart_after_ms});
  if (code != EXIT_SUCCESS || options.stop_code == 0) return code;
  std::fprintf(stderr, "%s: ends with code %u, as told by --stop-code\n", kName, options.stop_code);
  return static_cast<int>(options.stop_code);
}
