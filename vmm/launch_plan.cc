// SPDX-License-Identifier: Apache-2.0
#include "vmm/launch_plan.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "vmm/engine.h"
#include "vmm/memory_map.h"
#include "vmm/window.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kMaxMemoryMb = 16384;
constexpr uint64_t kGuestBundleLimit = 1024 * kMiB;  // Keeps the window in low RAM.

// RAM that the kernel itself takes beside its image (page structures, per-CPU data, caches) and the
// agent with some workers: an estimate, on the safe side (a 4-CPU guest runs in 256 MiB).
constexpr uint64_t kBaseNeed = 128 * kMiB;
constexpr uint64_t kNeedPerCpu = 4 * kMiB;
// The engine keeps ACPI tables at the top of low RAM, 128 KiB, and puts the initramfs below them.
constexpr uint64_t kTopReserve = 2 * kMiB;

uint64_t AlignUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

std::vector<uint64_t> SplitMemory(uint64_t total, int nodes) {
  const uint64_t share = total / static_cast<uint64_t>(nodes) / (2 * kMiB) * (2 * kMiB);
  std::vector<uint64_t> sizes(static_cast<size_t>(nodes), share);
  sizes.back() = total - share * static_cast<uint64_t>(nodes - 1);
  return sizes;
}

// Why each is there:
//   quiet loglevel=4        The serial port is slow, also in virtual time; errors still show.
//   loglevel=7              In place of these, for users who ask for the kernel's log (dmesg).
//   cryptomgr.notests       Self-tests of ciphers: 0.5 s of a cold boot.
//   tsc=reliable no_timer_check  No calibration against other clocks; they all are virtual time.
//   nokaslr                 Addresses are equal over runs: the memory digest needs it.
//   mitigations=off         Nothing to protect in a guest of one user; the emulation pays for them.
//   random.trust_cpu=on     No waiting for entropy: the agent seeds the pool from the plan.
//   oops=panic panic=-1     A broken kernel resets the machine at once, which ends it (-no-reboot).
//                           Distribution kernels have the pvpanic driver as a module, so that the
//                           panic itself is seen only on the console.
//   init_on_alloc=0 lsm= audit= ipv6. rcu_expedited, initcall_blacklist=
//                           Work that no scheduler test needs.
constexpr char kQuietOptions[] = "quiet loglevel=4";
constexpr char kDmesgOptions[] = "loglevel=7";
constexpr char kFixedOptions[] =
    "cryptomgr.notests tsc=reliable no_timer_check nokaslr "
    "mitigations=off random.trust_cpu=on oops=panic panic=-1 init_on_alloc=0 lsm=capability "
    "audit=0 "
    "ipv6.disable=1 rcupdate.rcu_expedited=1 initcall_blacklist=load_system_certificate_list";

}  // namespace

uint64_t MemoryBytes(const v1::LaunchPlan& plan) {
  return std::accumulate(plan.node_memory().begin(), plan.node_memory().end(), uint64_t{0});
}

int NumCpus(const v1::LaunchPlan& plan) {
  const v1::Topology& topology = plan.topology();
  return static_cast<int>(topology.llcs() * topology.cores_per_llc() * topology.threads_per_core());
}

absl::Duration DefaultVcpuTurn(const v1::LaunchPlan& plan) {
  return absl::Microseconds(std::min(100, std::max(1, 400 / std::max(1, NumCpus(plan)))));
}

absl::StatusOr<v1::LaunchPlan> MakeLaunchPlan(const LaunchRequest& request, const Engine& engine) {
  v1::LaunchPlan plan;
  const scenario::Topology& topology = request.topology;
  *plan.mutable_topology() = topology.ToProto();
  if (request.bundle_bytes > kGuestBundleLimit) {
    return absl::InvalidArgumentError(
        absl::StrCat("bundle: ", request.bundle_bytes, " bytes, more than ", kGuestBundleLimit));
  }
  if (request.memory_mb > kMaxMemoryMb) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory_mb: ", request.memory_mb, " is more than ", kMaxMemoryMb));
  }
  plan.set_window_size(WindowSize(request.bundle_bytes));
  // The guest holds initramfs and bundle twice while it unpacks them.
  const uint64_t need = kBaseNeed + kNeedPerCpu * static_cast<uint64_t>(topology.num_cpus()) +
                        request.kernel_bytes + 2 * request.boot_image_bytes + plan.window_size() +
                        request.bundle_bytes;
  const uint64_t memory = AlignUp(std::max(request.memory_mb * kMiB, need), 2 * kMiB);
  if (memory > kMaxMemoryMb * kMiB) {
    return absl::InvalidArgumentError(absl::StrCat("kernel, boot image and bundle need ",
                                                   need / kMiB, " MiB of guest memory, more than ",
                                                   kMaxMemoryMb));
  }
  for (const uint64_t size : SplitMemory(memory, topology.numa_nodes())) plan.add_node_memory(size);

  const uint64_t low_end = LowRamEnd(memory);
  const uint64_t above = plan.window_size() + request.boot_image_bytes + kTopReserve;
  if (above > low_end) {
    return absl::InvalidArgumentError(absl::StrCat("boot image: ", request.boot_image_bytes,
                                                   " bytes do not fit into low RAM, ",
                                                   low_end / kMiB, " MiB"));
  }
  plan.set_window_address((low_end - above) / window::kAlignment * window::kAlignment);
  plan.set_command_line(absl::StrFormat(
      "console=ttyS0 %s %s memmap=%dK$%#x %s%#x,%#x", request.dmesg ? kDmesgOptions : kQuietOptions,
      kFixedOptions, plan.window_size() / 1024, plan.window_address(), window::kCommandLineKey,
      plan.window_address(), plan.window_size()));
  engine.CompletePlan(request.vcpu_mips, &plan);
  return plan;
}

absl::Status CheckLaunchPlan(const v1::LaunchPlan& plan) {
  const auto bad = [](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat("launch plan: ", what...));
  };
  absl::StatusOr<scenario::Topology> topology = scenario::Topology::FromProto(plan.topology());
  if (!topology.ok()) return bad(topology.status().message());
  if (plan.node_memory_size() != topology->numa_nodes()) {
    return bad("node_memory has ", plan.node_memory_size(), " entries for ", topology->numa_nodes(),
               " NUMA nodes");
  }
  for (const uint64_t size : plan.node_memory()) {
    if (size == 0 || size % (2 * kMiB) != 0 || size > kMaxMemoryMb * kMiB) {
      return bad("node_memory ", size, " is not a multiple of 2 MiB up to ", kMaxMemoryMb, " MiB");
    }
  }
  const uint64_t memory = MemoryBytes(plan);
  if (memory > kMaxMemoryMb * kMiB) {
    return bad("node_memory: ", memory / kMiB, " MiB together, more than ", kMaxMemoryMb);
  }
  const uint64_t low_end = LowRamEnd(memory);
  const auto aligned = [](uint64_t value) { return value % window::kAlignment == 0; };
  if (!aligned(plan.window_address()) || !aligned(plan.window_size()) ||
      plan.window_size() > low_end || plan.window_address() > low_end - plan.window_size()) {
    return bad(absl::StrFormat("the window, %#x bytes at %#x, is not in low RAM, which ends at %#x",
                               plan.window_size(), plan.window_address(), low_end));
  }
  return absl::OkStatus();
}

}  // namespace ktstr::vmm
