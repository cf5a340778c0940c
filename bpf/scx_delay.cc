// SPDX-License-Identifier: Apache-2.0
//
// scx_delay: makes callbacks of the scheduler that runs take longer, so that the windows of its
// races open. Runs beside any sched_ext scheduler. Options are in kUsage.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <getopt.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bpf/delay_abi.h"
#include "bpf/embed_object.h"
#include "bpf/scheduler.h"
#include "bpf/scx_callbacks.h"

namespace {

using ktstr::bpf::NumberOrExit;

constexpr char kName[] = "scx_delay";
constexpr char kEndSuffix[] = ":end";
constexpr int kPollMs = 10;
constexpr unsigned kMaxWaitMs = 60'000;
constexpr unsigned kMaxOneIn = 1'000'000;
constexpr char kUsage[] =
    "Usage: scx_delay --point CALLBACK[:end]... [--max-ns N] [--one-in N] [--seed N] [--wait-ms "
    "N]\n"
    "Spins at the entry (or, with :end, at the end) of callbacks of the sched_ext scheduler that\n"
    "runs, as `enqueue` or `dispatch:end`. Runs until SIGINT or SIGTERM, then prints what it did.\n"
    "  --max-ns N   each delay is drawn from 1 to N ns, 1 to 10000000, default 200000\n"
    "  --one-in N   delays one call in N, 1 to 1000000, default 1\n"
    "  --seed N     of what is drawn, 0 to 4294967295, default 1\n"
    "  --wait-ms N  how long a scheduler may take to appear, 0 to 60000, default 10000\n";

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};

struct Options {
  std::vector<std::string> points;
  delay_config config = {.seed = 1, .max_ns = 200'000, .one_in = 1};
  unsigned wait_ms = 10'000;
};

// One program, attached to one callback.
struct Delay {
  std::string point;
  std::unique_ptr<bpf_object, ObjectCloser> object;
  bpf_link* link = nullptr;  // freed with the process
};

bool Fail(const std::string& what, int error) {
  std::fprintf(stderr, "%s: cannot %s: %s\n", kName, what.c_str(), std::strerror(error));
  return false;
}

bool AtEnd(const std::string& point) {
  const size_t length = sizeof(kEndSuffix) - 1;
  return point.size() > length && point.compare(point.size() - length, length, kEndSuffix) == 0;
}

std::string CallbackOf(const std::string& point) {
  return AtEnd(point) ? point.substr(0, point.size() - (sizeof(kEndSuffix) - 1)) : point;
}

// Empty, and a message is printed, if the arguments make no sense; exits by itself on --help.
std::optional<Options> ParseArguments(int argc, char** argv) {
  const option table[] = {{"point", required_argument, nullptr, 'p'},
                          {"max-ns", required_argument, nullptr, 'n'},
                          {"one-in", required_argument, nullptr, 'o'},
                          {"seed", required_argument, nullptr, 's'},
                          {"wait-ms", required_argument, nullptr, 'w'},
                          {"help", no_argument, nullptr, 'h'},
                          {}};
  Options out;
  for (int c; (c = getopt_long(argc, argv, "h", table, nullptr)) != -1;) {
    switch (c) {
      case 'p':
        out.points.push_back(optarg);
        break;
      case 'n':
        out.config.max_ns = NumberOrExit(kName, "max-ns", optarg, 1, DELAY_MAX_NS);
        break;
      case 'o':
        out.config.one_in = NumberOrExit(kName, "one-in", optarg, 1, kMaxOneIn);
        break;
      case 's':
        out.config.seed = NumberOrExit(kName, "seed", optarg, 0, ~0U);
        break;
      case 'w':
        out.wait_ms = NumberOrExit(kName, "wait-ms", optarg, 0, kMaxWaitMs);
        break;
      case 'h':
        std::fputs(kUsage, stdout);
        std::exit(EX_OK);
      default:
        std::fputs(kUsage, stderr);
        return std::nullopt;
    }
  }
  if (optind < argc || out.points.empty()) {
    if (optind < argc) std::fprintf(stderr, "%s: unexpected argument %s\n", kName, argv[optind]);
    if (out.points.empty()) std::fprintf(stderr, "%s: --point is missing\n", kName);
    std::fputs(kUsage, stderr);
    return std::nullopt;
  }
  return out;
}

// Programs of `callback`, once there is a scheduler that has it. False when a stop signal came or
// the time is over.
bool WaitForCallback(const btf* types, const std::string& callback, unsigned wait_ms,
                     std::vector<ktstr::bpf::Callback>* found) {
  for (unsigned waited = 0;; waited += kPollMs) {
    *found = ktstr::bpf::FindCallbacks(types, callback);
    if (!found->empty()) return true;
    if (waited >= wait_ms) {
      std::fprintf(stderr, "%s: no scheduler with a callback %s came within %u ms\n", kName,
                   callback.c_str(), wait_ms);
      return false;
    }
    if (ktstr::bpf::TakeStopSignal(kPollMs)) return false;
  }
}

bool Prepare(const ktstr::bpf::Callback& callback, const delay_config& config, Delay* delay) {
  const std::string_view image = ktstr::bpf::EmbeddedObject();
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = kName);
  delay->object.reset(bpf_object__open_mem(image.data(), image.size(), &options));
  if (delay->object == nullptr) return Fail("open its BPF object", errno);
  bpf_object* object = delay->object.get();
  const bool at_end = AtEnd(delay->point);
  bpf_program* used = bpf_object__find_program_by_name(object, at_end ? "at_end" : "at_entry");
  bpf_program* unused = bpf_object__find_program_by_name(object, at_end ? "at_entry" : "at_end");
  bpf_map* map = bpf_object__find_map_by_name(object, ".rodata.config");
  size_t size = 0;
  void* initial = map != nullptr ? bpf_map__initial_value(map, &size) : nullptr;
  if (used == nullptr || unused == nullptr || initial == nullptr || size < sizeof(config)) {
    return Fail("find its programs and .rodata.config in its BPF object", ENOENT);
  }
  std::memcpy(initial, &config, sizeof(config));
  bpf_program__set_autoload(unused, false);
  const int target = bpf_prog_get_fd_by_id(callback.program);
  if (target < 0) return Fail("open the scheduler's program " + callback.function, errno);
  int error = bpf_program__set_attach_target(used, target, callback.function.c_str());
  if (error == 0) error = bpf_object__load(object);
  close(target);
  if (error != 0) return Fail("load its program for " + callback.function, -error);
  delay->link = bpf_program__attach(used);
  if (delay->link == nullptr) return Fail("attach to " + callback.function, errno);
  return true;
}

bool PrepareAll(const Options& options, const btf* types, std::vector<Delay>* delays) {
  for (const std::string& point : options.points) {
    const std::string name = CallbackOf(point);
    std::vector<ktstr::bpf::Callback> callbacks;
    if (!WaitForCallback(types, name, options.wait_ms, &callbacks)) return false;
    for (const ktstr::bpf::Callback& callback : callbacks) {
      delays->push_back({.point = point});
      // Points must not draw the same delays.
      delay_config config = options.config;
      config.seed += delays->size() << 32;
      if (!Prepare(callback, config, &delays->back())) return false;
    }
  }
  return true;
}

void PrintCounts(const Delay& delay) {
  bpf_map* map = bpf_object__find_map_by_name(delay.object.get(), ".data.counts");
  delay_counts counts = {};
  const uint32_t key = 0;
  std::vector<char> value(map != nullptr ? bpf_map__value_size(map) : 0);
  if (value.size() < sizeof(counts) ||
      bpf_map_lookup_elem(bpf_map__fd(map), &key, value.data()) != 0) {
    Fail("read the counts of " + delay.point, errno);
    return;
  }
  std::memcpy(&counts, value.data(), sizeof(counts));
  std::printf("%s: %s: %llu of %llu calls delayed, by %llu us\n", kName, delay.point.c_str(),
              static_cast<unsigned long long>(counts.delays),
              static_cast<unsigned long long>(counts.calls),
              static_cast<unsigned long long>(counts.delayed_ns / 1000));
}

int PrintWarnings(libbpf_print_level level, const char* format, va_list arguments) {
  return level == LIBBPF_WARN ? std::vfprintf(stderr, format, arguments) : 0;
}

}  // namespace

int main(int argc, char** argv) {
  ktstr::bpf::HoldStopSignals();
  const std::optional<Options> options = ParseArguments(argc, argv);
  if (!options.has_value()) return EX_USAGE;
  libbpf_set_print(PrintWarnings);
  btf* types = btf__load_vmlinux_btf();
  if (types == nullptr) {
    Fail("read the kernel's types (/sys/kernel/btf/vmlinux)", errno);
    return EXIT_FAILURE;
  }
  for (const std::string& point : options->points) {
    if (ktstr::bpf::IsCallback(types, CallbackOf(point))) continue;
    std::fprintf(stderr, "%s: --point %s: this kernel's sched_ext has no such callback\n", kName,
                 point.c_str());
    return EX_USAGE;
  }
  std::vector<Delay> delays;
  if (!PrepareAll(*options, types, &delays)) return EXIT_FAILURE;
  std::printf("%s: attached to %zu programs\n", kName, delays.size());
  std::fflush(stdout);
  ktstr::bpf::TakeStopSignal(-1);
  for (const Delay& delay : delays) PrintCounts(delay);
  return EXIT_SUCCESS;
}
