// SPDX-License-Identifier: Apache-2.0
//
// scx_delay: makes callbacks of the loaded scheduler take longer, which widens the windows of its
// races. Runs beside any sched_ext scheduler. Options are in kUsage.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bpf/delay_abi.h"
#include "bpf/embed_object.h"
#include "bpf/options.h"
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
    "Usage: scx_delay --point CALLBACK[:end][,MAX_NS[,ONE_IN]]... [--seed N] [--wait-ms N]\n"
    "Spins at the entry (or, with :end, at the end) of callbacks of the sched_ext scheduler that\n"
    "runs, as `enqueue` or `dispatch:end,50000,4`. Runs until SIGINT or SIGTERM, then prints what\n"
    "it did.\n"
    "  MAX_NS       draws each delay from 1 to this many ns, 1 to 10000000, default 200000\n"
    "  ONE_IN       delays one call in so many, 1 to 1000000, default 1\n"
    "  --seed N     the seed of the draws, 0 to 18446744073709551615, default 1\n"
    "  --wait-ms N  how long a scheduler may take to appear, 0 to 60000, default 10000\n";

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};

struct Point {
  std::string name;  // as given, without the numbers
  std::string callback;
  bool at_end = false;
  delay_config config = {.seed = 1, .max_ns = 200'000, .one_in = 1};
};

struct Options {
  std::vector<Point> points;
  uint64_t seed = 1;
  unsigned wait_ms = 10'000;
};

// One program, attached to one callback.
struct Delay {
  Point point;
  std::unique_ptr<bpf_object, ObjectCloser> object;
  bpf_link* link = nullptr;  // freed with the process
};

bool Fail(const std::string& what, int error) {
  std::fprintf(stderr, "%s: cannot %s: %s\n", kName, what.c_str(), std::strerror(error));
  return false;
}

// The text before the first comma of `*rest`, which becomes what follows it.
std::string TakeField(std::string* rest) {
  const size_t comma = rest->find(',');
  std::string field = rest->substr(0, comma);
  *rest = comma == std::string::npos ? "" : rest->substr(comma + 1);
  return field;
}

Point ParsePoint(const char* text) {
  Point point;
  std::string rest = text;
  point.name = TakeField(&rest);
  point.callback = point.name;
  const size_t length = sizeof(kEndSuffix) - 1;
  if (point.name.size() > length &&
      point.name.compare(point.name.size() - length, length, kEndSuffix) == 0) {
    point.at_end = true;
    point.callback.resize(point.name.size() - length);
  }
  if (rest.empty()) return point;
  const std::string max_ns = TakeField(&rest);
  point.config.max_ns = NumberOrExit(kName, "point MAX_NS", max_ns.c_str(), 1, DELAY_MAX_NS);
  if (rest.empty()) return point;
  point.config.one_in = NumberOrExit(kName, "point ONE_IN", rest.c_str(), 1, kMaxOneIn);
  return point;
}

uint64_t SeedOrExit(const char* text) {
  char* end = nullptr;
  errno = 0;
  const unsigned long long value = std::strtoull(text, &end, 10);
  if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0') {
    std::fprintf(stderr, "%s: --seed %s: want a number from 0 to 18446744073709551615\n", kName,
                 text);
    std::exit(EX_USAGE);
  }
  return value;
}

Options ParseArguments(int argc, char** argv) {
  Options out;
  ktstr::bpf::ParseOptionsOrExit(
      kName, kUsage, argc, argv,
      {{"point", [&](const char* value) { out.points.push_back(ParsePoint(value)); }},
       {"seed", [&](const char* value) { out.seed = SeedOrExit(value); }},
       {"wait-ms", [&](const char* value) {
          out.wait_ms = NumberOrExit(kName, "wait-ms", value, 0, kMaxWaitMs);
        }}});
  if (!out.points.empty()) return out;
  std::fprintf(stderr, "%s: --point is missing\n%s", kName, kUsage);
  std::exit(EX_USAGE);
}

// Waits for a scheduler with `callback` and sets `*found` to its programs. False when a stop signal
// came. Ends the program with EX_DATAERR when the time is over: nothing is attached yet.
bool WaitForCallback(const btf* types, const std::string& callback, unsigned wait_ms,
                     std::vector<ktstr::bpf::Callback>* found) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
  while (true) {
    *found = ktstr::bpf::FindCallbacks(types, callback);
    if (!found->empty()) return true;
    if (std::chrono::steady_clock::now() >= end) {
      std::fprintf(stderr, "%s: no scheduler that runs has a callback %s (waited %u ms)\n", kName,
                   callback.c_str(), wait_ms);
      std::exit(EX_DATAERR);
    }
    if (ktstr::bpf::TakeStopSignal(kPollMs)) return false;
  }
}

bool Prepare(const ktstr::bpf::Callback& callback, Delay* delay) {
  const delay_config& config = delay->point.config;
  const std::string_view image = ktstr::bpf::EmbeddedObject();
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = kName);
  delay->object.reset(bpf_object__open_mem(image.data(), image.size(), &options));
  if (delay->object == nullptr) return Fail("open its BPF object", errno);
  bpf_object* object = delay->object.get();
  const bool at_end = delay->point.at_end;
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
  for (const Point& point : options.points) {
    std::vector<ktstr::bpf::Callback> callbacks;
    if (!WaitForCallback(types, point.callback, options.wait_ms, &callbacks)) return false;
    for (const ktstr::bpf::Callback& callback : callbacks) {
      delays->push_back({.point = point});
      // Points must not draw the same delays.
      delays->back().point.config.seed = options.seed + (uint64_t{delays->size()} << 32);
      if (!Prepare(callback, &delays->back())) return false;
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
    Fail("read the counts of " + delay.point.name, errno);
    return;
  }
  std::memcpy(&counts, value.data(), sizeof(counts));
  std::printf("%s: %s: %llu of %llu calls delayed, by %llu us\n", kName, delay.point.name.c_str(),
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
  const Options options = ParseArguments(argc, argv);
  libbpf_set_print(PrintWarnings);
  btf* types = btf__load_vmlinux_btf();
  if (types == nullptr) {
    Fail("read the kernel's types (/sys/kernel/btf/vmlinux)", errno);
    return EXIT_FAILURE;
  }
  for (const Point& point : options.points) {
    if (ktstr::bpf::IsCallback(types, point.callback)) continue;
    std::fprintf(stderr, "%s: --point %s: this kernel's sched_ext has no such callback\n", kName,
                 point.name.c_str());
    return EX_DATAERR;
  }
  std::vector<Delay> delays;
  if (!PrepareAll(options, types, &delays)) return EXIT_FAILURE;
  std::printf("%s: attached to %zu programs\n", kName, delays.size());
  std::fflush(stdout);
  ktstr::bpf::TakeStopSignal(-1);
  for (const Delay& delay : delays) PrintCounts(delay);
  return EXIT_SUCCESS;
}
