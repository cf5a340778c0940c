// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/argv.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/string_view.h"
#include "vmm/launch_plan.h"
#include "vmm/memory_map.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm::qemu {
namespace {

std::string FdPath(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

// NUMA node = socket, LLC = die: what the guest kernel turns into its scheduling domains.
void AddTopology(const v1::LaunchPlan& plan, Start start, std::vector<std::string>* args) {
  const v1::Topology& topology = plan.topology();
  const int nodes = plan.node_memory_size();
  args->push_back("-smp");
  args->push_back(absl::StrCat(
      NumCpus(plan), ",sockets=", nodes, ",dies=", static_cast<int>(topology.llcs()) / nodes,
      ",cores=", topology.cores_per_llc(), ",threads=", topology.threads_per_core()));
  args->push_back("-m");
  args->push_back(absl::StrCat(MemoryBytes(plan) >> 20, "M"));
  const bool numa = nodes > 1;
  for (int node = 0; node < nodes; ++node) {
    args->push_back("-object");
    args->push_back(absl::StrCat("memory-backend-file,id=ram", node,
                                 ",size=", plan.node_memory(node),
                                 ",mem-path=", FdPath(kFirstMemoryFd + node),
                                 start == Start::kRestore ? ",share=off" : ",share=on"));
    if (numa) {
      args->push_back("-numa");
      args->push_back(absl::StrCat("node,nodeid=", node, ",memdev=ram", node));
    }
  }
  for (int node = 0; numa && node < nodes; ++node) {
    args->push_back("-numa");
    args->push_back(absl::StrCat("cpu,node-id=", node, ",socket-id=", node));
  }
}

}  // namespace

absl::StatusOr<Version> ParseVersion(std::string_view output) {
  absl::string_view line = base::ToAbsl(output.substr(0, output.find('\n')));
  Version version;
  const bool is_qemu = absl::ConsumePrefix(&line, "QEMU ");
  absl::ConsumePrefix(&line, "emulator version ");
  if (!is_qemu ||
      std::sscanf(std::string(line).c_str(), "%d.%d", &version.major, &version.minor) != 2) {
    return absl::FailedPreconditionError(
        absl::StrCat("-version does not print a version of QEMU: \"", line.substr(0, 100), "\""));
  }
  version.text = absl::StrCat("QEMU ", line.substr(0, 100));
  if (std::make_pair(version.major, version.minor) < std::make_pair(7, 2)) {
    return absl::FailedPreconditionError(
        absl::StrCat(version.text, " is too old: 7.2 or newer is needed"));
  }
  return version;
}

std::vector<std::string> MakeArguments(const v1::LaunchPlan& plan, const Version& version,
                                       Start start) {
  // Only an Intel guest sees dies as LLCs. From version 10 on QEMU aborts with several dies when
  // the highest CPUID leaf is not named.
  std::string cpu = "max,vendor=GenuineIntel,-rdrand,-rdseed";
  if (version.major >= 10) cpu += ",level=0x1b";
  std::vector<std::string> args = {
      "-nodefaults",
      "-no-user-config",
      "-name",
      "ktstr,debug-threads=on",
      "-display",
      "none",
      "-accel",
      "tcg,thread=single",
      "-icount",
      absl::StrCat("shift=", plan.tcg().icount_shift(), ",sleep=off"),
      "-rtc",
      "base=2026-01-01,clock=vm",
      "-cpu",
      cpu,
      "-machine",
      absl::StrCat("q35,max-ram-below-4g=", kMaxLowRam,
                   plan.node_memory_size() > 1 ? "" : ",memory-backend=ram0"),
  };
  AddTopology(plan, start, &args);
  const std::vector<std::string> rest = {
      "-kernel",    FdPath(kKernelFd),
      "-initrd",    FdPath(kBootImageFd),
      "-append",    plan.command_line(),
      "-device",    "pvpanic",
      "-chardev",   absl::StrCat("file,id=bell,path=", FdPath(kBellFd)),
      "-device",    absl::StrFormat("isa-debugcon,iobase=%#x,chardev=bell", window::kBellPort),
      "-action",    "panic=pause",
      "-no-reboot", "-no-shutdown",
      "-chardev",   absl::StrCat("file,id=console,path=", FdPath(kConsoleFd)),
      "-serial",    "chardev:console",
      "-chardev",   absl::StrCat("socket,id=qmp,fd=", kQmpFd),
      "-mon",       "chardev=qmp,mode=control",
      "-S",
  };
  args.insert(args.end(), rest.begin(), rest.end());
  if (start != Start::kBoot) args.insert(args.end(), {"-incoming", "defer"});
  return args;
}

}  // namespace ktstr::vmm::qemu
