// SPDX-License-Identifier: Apache-2.0
#include "daemon/machine_runner.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "daemon/run_store.h"
#include "daemon/spec_check.h"
#include "scenario/plan.h"
#include "scenario/topology.h"
#include "vmm/launch_plan.h"
#include "vmm/qemu/argv.h"
#include "vmm/snapshot.h"

namespace ktstr::daemon {
namespace {

constexpr size_t kMaxConfigBytes = size_t{4} << 20;

absl::StatusOr<uint64_t> SizeOf(const base::UniqueFd& fd, std::string_view what) {
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return base::ErrnoStatus(errno, what);
  return static_cast<uint64_t>(info.st_size);
}

// Digest of the kernel's image by the cache's own books.
std::string ImageDigest(const v1::KernelMetadata& metadata) {
  for (const v1::KernelFile& file : metadata.files()) {
    if (file.name() == "vmlinux") return file.sha256();
  }
  return {};
}

v1::Observation Stopped(const StopRequest& why) {
  v1::Observation observation;
  observation.mutable_vm_end()->set_cause(why.interrupted ? v1::VmEnd::INTERRUPTED
                                                          : v1::VmEnd::CANCELLED);
  observation.mutable_vm_end()->set_detail(why.reason);
  return observation;
}

void Note(RunReporter& reporter, std::string text) {
  v1::RunProgress line;
  line.set_text(std::move(text));
  reporter.Progress(line);
}

std::string HowItStarts(v1::VmStart::Mode mode) {
  switch (mode) {
    case v1::VmStart::SNAPSHOT:
      return "boots once for a snapshot, then warm";
    case v1::VmStart::RESTORE:
      return "warm";
    default:
      return "cold boot";
  }
}

}  // namespace

absl::StatusOr<std::string> FindQemu(const std::string& configured) {
  absl::StatusOr<std::string> found = base::FindProgram(configured);
  if (found.ok()) return found;
  return absl::FailedPreconditionError(absl::StrCat(
      found.status().message(), ": QEMU is needed to run virtual machines. Install it: ",
      "sudo apt install qemu-system-x86"));
}

struct MachineRunner::Machine {
  v1::VmStart start;
  base::UniqueFd kernel;
  BootImage boot;
  base::UniqueFd program;
  std::string kernel_digest;
  std::string identity;  // Of its snapshot; empty: it can have none.
  std::string label;

  // Descriptors of VmStart; `snapshot`: null but for RESTORE.
  std::vector<int> Fds(const vmm::Snapshot* snapshot) const {
    std::vector<int> fds = {kernel.get(), boot.file.get(), program.get()};
    if (snapshot == nullptr) return fds;
    fds.push_back(snapshot->state.get());
    for (const base::UniqueFd& ram : snapshot->ram) fds.push_back(ram.get());
    return fds;
  }
};

absl::Status MachineRunner::PlanWarmStart(uint64_t bundle_bytes, Machine* machine) {
  v1::VmStart& start = machine->start;
  absl::StatusOr<EngineIdentity> engine = probe_.Get(start.engine_path(), machine->program.get());
  if (!engine.ok() || machine->kernel_digest.empty()) return absl::OkStatus();
  KTSTR_ASSIGN_OR_RETURN(const vmm::qemu::Version version,
                         vmm::qemu::ParseVersion(engine->version_line));
  KTSTR_ASSIGN_OR_RETURN(scenario::Topology topology,
                         scenario::Topology::FromProto(start.topology()));
  vmm::LaunchRequest request{topology};
  request.memory_mb = start.memory_mb();
  KTSTR_ASSIGN_OR_RETURN(request.kernel_bytes, SizeOf(machine->kernel, "kernel"));
  KTSTR_ASSIGN_OR_RETURN(request.boot_image_bytes, SizeOf(machine->boot.file, "boot image"));
  request.bundle_bytes = vmm::BundleCapacity(bundle_bytes);
  request.dmesg = start.dmesg();
  absl::StatusOr<vmm::LaunchPlan> plan = vmm::MakeLaunchPlan(request);
  if (!plan.ok()) return absl::OkStatus();  // Too large with room to spare; cold it may fit.
  start.set_engine_version(engine->version_line);
  start.set_bundle_capacity(request.bundle_bytes);
  machine->identity = vmm::qemu::SnapshotIdentity(*plan, version, engine->program,
                                                  machine->kernel_digest, machine->boot.digest);
  absl::StrAppend(&machine->label, " ", topology.Label(), " ", plan->memory_bytes() >> 20, " MiB");
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const MachineRunner::Machine>> MachineRunner::MakeMachine(
    const RunJob& job, const cache::ResolvedKernel& kernel, v1::Engine engine,
    const base::UniqueFd& bundle) {
  const v1::RunSpec& spec = job.spec;
  auto made = std::make_shared<Machine>();
  Machine& machine = *made;
  v1::VmStart& start = machine.start;
  start.set_engine(engine);
  KTSTR_ASSIGN_OR_RETURN(const scenario::Topology topology,
                         scenario::Topology::FromProto(spec.scenario().topology()));
  *start.mutable_topology() = topology.ToProto();
  start.set_memory_mb(scenario::MemoryMb(spec.scenario(), topology));
  start.set_dmesg(spec.dmesg());
  KTSTR_ASSIGN_OR_RETURN(*start.mutable_engine_path(), FindQemu(options_.qemu_path));
  std::string config;
  const std::string config_path = base::JoinPath(kernel.dir, "config");
  if (base::Exists(config_path)) {
    KTSTR_ASSIGN_OR_RETURN(config, base::ReadFile(config_path, kMaxConfigBytes));
  }
  KTSTR_ASSIGN_OR_RETURN(machine.boot,
                         boot_->Get(kernel.metadata.key(), kernel.metadata.release(), config));
  KTSTR_ASSIGN_OR_RETURN(machine.kernel,
                         base::Open(base::JoinPath(kernel.dir, "vmlinux"), O_RDONLY));
  KTSTR_ASSIGN_OR_RETURN(machine.program, base::Open(start.engine_path(), O_RDONLY));
  machine.kernel_digest = ImageDigest(kernel.metadata);
  machine.label = kernel.metadata.release();
  KTSTR_ASSIGN_OR_RETURN(const uint64_t bundle_bytes, SizeOf(bundle, "bundle"));
  start.set_bundle_capacity(bundle_bytes);
  if (!spec.no_warm()) KTSTR_RETURN_IF_ERROR(PlanWarmStart(bundle_bytes, &machine));
  return made;
}

absl::StatusOr<MachineRunner::Outcome> MachineRunner::Run(
    const RunJob& job, const cache::ResolvedKernel& kernel, v1::Engine engine,
    const std::string& engine_why, const base::UniqueFd& bundle, RunReporter& reporter,
    const VmListener& listener) {
  const absl::Duration begin = base::RealClock()->Monotonic();
  KTSTR_ASSIGN_OR_RETURN(const std::shared_ptr<const Machine> machine,
                         MakeMachine(job, kernel, engine, bundle));
  const std::string& identity = machine->identity;
  Snapshots::Handle snapshot;
  if (!identity.empty()) {
    std::string note;
    snapshot = snapshots_->Find(identity, &note);
    if (!note.empty()) Note(reporter, absl::StrCat("snapshot is of no use: ", note));
  }
  VmLaunch launch;
  launch.program = options_.vm_program;
  launch.start = machine->start;
  launch.run.set_run_id(RunId(job.number));
  launch.run.set_timeout_ms(TimeoutMs(job.spec));
  launch.run.set_take_digest(true);
  launch.bundle = bundle.get();
  bool wanted = false;  // The next one.
  const VmListener all = {.observation =
                              [&](const v1::Observation& seen) {
                                if (snapshot != nullptr && !std::exchange(wanted, true)) {
                                  prepared_->Want(identity, job.uid, Restorer(machine, snapshot));
                                }
                                listener.observation(seen);
                              },
                          .progress = listener.progress,
                          .console = listener.console,
                          .snapshot =
                              [&](vmm::Snapshot taken) {
                                snapshot =
                                    snapshots_->Add(identity, machine->label, std::move(taken));
                              }};
  Outcome outcome;
  v1::VmStart::Mode mode = identity.empty()      ? v1::VmStart::BOOT
                           : snapshot == nullptr ? v1::VmStart::SNAPSHOT
                                                 : v1::VmStart::RESTORE;
  outcome.before_engine = base::RealClock()->Monotonic() - begin;
  while (true) {
    reporter.Phase(v1::RunPhase::STARTING,
                   absl::StrCat("engine tcg, ", HowItStarts(mode), ", virtual time, seed ",
                                scenario::SeedOf(job.spec.scenario()), " (", engine_why, ")"));
    launch.start.set_mode(mode);
    launch.fds = machine->Fds(mode == v1::VmStart::RESTORE ? snapshot.get() : nullptr);
    outcome.start = mode == v1::VmStart::BOOT ? v1::Timings::BOOT : v1::Timings::RESTORE;
    std::optional<VmProcess> ahead =
        mode == v1::VmStart::RESTORE ? prepared_->Take(identity) : std::nullopt;
    const bool was_ahead = ahead.has_value();
    VmResult result = RunVm(launch, reporter, all, std::move(ahead));
    outcome.observations = std::move(result.observations);
    if (const std::string why = snapshots_->TakeUnkept(identity); !why.empty()) {
      Note(reporter,
           absl::StrCat(
               "snapshot not kept on disk, so the first run after the daemon's end boots again: ",
               why));
    }
    if (!result.no_snapshot.has_value()) return outcome;
    if (const std::optional<StopRequest> stop = reporter.stop(); stop.has_value()) {
      outcome.observations.push_back(Stopped(*stop));
      return outcome;
    }
    if (was_ahead)
      continue;  // Its process may have been killed: that says nothing of the snapshot.
    Note(reporter, absl::StrCat("snapshot is of no use: ", *result.no_snapshot));
    snapshots_->Drop(identity);
    prepared_->Drop(identity);
    snapshot = nullptr;
    mode = mode == v1::VmStart::RESTORE ? v1::VmStart::SNAPSHOT : v1::VmStart::BOOT;
  }
}

// Keeps alive what the machine is made of until the process has it.
PreparedVms::Starter MachineRunner::Restorer(std::shared_ptr<const Machine> machine,
                                             Snapshots::Handle snapshot) const {
  return [program = options_.vm_program, machine = std::move(machine),
          snapshot = std::move(snapshot)] {
    v1::VmStart start = machine->start;
    start.set_mode(v1::VmStart::RESTORE);
    return StartVm(program, start, machine->Fds(snapshot.get()));
  };
}

}  // namespace ktstr::daemon
