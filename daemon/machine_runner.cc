// SPDX-License-Identifier: Apache-2.0
#include "daemon/machine_runner.h"

#include <fcntl.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"
#include "daemon/run_store.h"
#include "daemon/spec_check.h"
#include "scenario/plan.h"
#include "scenario/topology.h"
#include "vmm/descriptors.h"
#include "vmm/engine.h"
#include "vmm/launch_plan.h"
#include "vmm/snapshot.h"

namespace ktstr::daemon {
namespace {

constexpr size_t kMaxConfigBytes = size_t{4} << 20;

// Digest of the kernel's image, from the metadata of its cache entry.
std::string ImageDigest(const v1::KernelMetadata& metadata) {
  for (const v1::KernelFile& file : metadata.files()) {
    if (file.name() == "vmlinux") return file.sha256();
  }
  return {};
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

struct MachineRunner::Machine {
  const vmm::Engine* engine = nullptr;
  vmm::EngineFile engine_file;
  v1::VmStart start;
  base::UniqueFd kernel;
  BootImage boot;
  std::string kernel_digest;
  std::string identity;  // Of its snapshot; empty: it can have none.
  std::string label;
  std::string note;  // For the user; empty: none.

  // Descriptors of VmStart; `snapshot`: null but for RESTORE.
  std::vector<vmm::NamedFd> Fds(const vmm::Snapshot* snapshot) const {
    std::vector<vmm::NamedFd> fds;
    if (snapshot != nullptr) fds = vmm::SnapshotFds(*snapshot);
    fds.push_back({vmm::kKernelName, kernel.get()});
    fds.push_back({vmm::kBootImageName, boot.file.get()});
    fds.push_back({vmm::kEngineName, engine_file.fd.get()});
    return fds;
  }
};

absl::StatusOr<bool> MachineRunner::PlanWarmStart(vmm::LaunchRequest request, Machine* machine) {
  absl::StatusOr<vmm::EngineIdentity> engine = probe_.Get(*machine->engine, machine->engine_file);
  if (!engine.ok() || machine->kernel_digest.empty()) return false;
  request.bundle_bytes = vmm::BundleCapacity(request.bundle_bytes);
  absl::StatusOr<v1::LaunchPlan> plan = vmm::MakeLaunchPlan(request, *machine->engine);
  if (!plan.ok()) return false;  // Too large with spare room for bundles; cold it may fit.
  KTSTR_ASSIGN_OR_RETURN(machine->identity,
                         vmm::SnapshotIdentity(*machine->engine, *plan, *engine,
                                               machine->kernel_digest, machine->boot.digest));
  machine->start.set_engine_version(engine->version);
  *machine->start.mutable_plan() = *std::move(plan);
  return true;
}

absl::StatusOr<std::shared_ptr<const MachineRunner::Machine>> MachineRunner::MakeMachine(
    const RunJob& job, const cache::ResolvedKernel& kernel, v1::Engine engine,
    const base::UniqueFd& bundle) {
  const v1::RunSpec& spec = job.spec;
  auto made = std::make_shared<Machine>();
  Machine& machine = *made;
  KTSTR_ASSIGN_OR_RETURN(machine.engine, vmm::FindEngine(engine));
  KTSTR_ASSIGN_OR_RETURN(machine.engine_file,
                         machine.engine->Open(options_.engine_paths.at(engine)));
  std::string config;
  const std::string config_path = base::JoinPath(kernel.dir, "config");
  if (base::Exists(config_path)) {
    KTSTR_ASSIGN_OR_RETURN(config, base::ReadFile(config_path, kMaxConfigBytes));
  }
  KTSTR_ASSIGN_OR_RETURN(machine.boot,
                         boot_->Get(kernel.metadata.key(), kernel.metadata.release(), config));
  KTSTR_ASSIGN_OR_RETURN(machine.kernel,
                         base::Open(base::JoinPath(kernel.dir, "vmlinux"), O_RDONLY));
  machine.kernel_digest = ImageDigest(kernel.metadata);

  v1::VmStart& start = machine.start;
  start.set_engine(engine);
  start.set_engine_path(machine.engine_file.path);
  start.set_send_console(spec.dmesg());
  KTSTR_ASSIGN_OR_RETURN(scenario::Topology topology,
                         scenario::Topology::FromProto(spec.scenario().topology()));
  vmm::LaunchRequest request{topology};
  request.memory_mb = scenario::MemoryMb(spec.scenario(), topology);
  request.vcpu_mips = scenario::VcpuMips(spec.scenario());
  KTSTR_ASSIGN_OR_RETURN(request.kernel_bytes, base::SizeOf(machine.kernel.get(), "kernel"));
  KTSTR_ASSIGN_OR_RETURN(request.boot_image_bytes,
                         base::SizeOf(machine.boot.file.get(), "boot image"));
  KTSTR_ASSIGN_OR_RETURN(request.bundle_bytes, base::SizeOf(bundle.get(), "bundle"));
  request.dmesg = spec.dmesg();
  bool warm = false;
  if (!spec.no_warm()) {
    KTSTR_ASSIGN_OR_RETURN(warm, PlanWarmStart(request, &machine));
  }
  if (!warm) {
    KTSTR_ASSIGN_OR_RETURN(*start.mutable_plan(), vmm::MakeLaunchPlan(request, *machine.engine));
  }
  const uint64_t mib = vmm::MemoryBytes(start.plan()) >> 20;
  machine.label = absl::StrCat(kernel.metadata.release(), " ", topology.Label(), " ", mib, " MiB");
  if (mib > request.memory_mb) {
    machine.note = absl::StrCat("guest memory raised from ", request.memory_mb, " to ", mib,
                                " MiB: kernel, boot image and bundle need it");
  }
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
    if (!note.empty()) Note(reporter, absl::StrCat("snapshot unusable: ", note));
  }
  VmLaunch launch;
  launch.program = options_.vm_program;
  launch.start = machine->start;
  launch.run.set_run_id(RunId(job.number));
  launch.run.set_timeout_ms(TimeoutMs(job.spec));
  launch.run.set_take_digest(true);
  launch.run.set_guest_limit_ms(scenario::GuestLimitMs(job.spec.scenario()));
  launch.run.set_attach_limit_ms(scenario::AttachTimeoutMs(job.spec.scenario()));
  if (job.spec.has_vcpu_turn_us()) launch.run.set_vcpu_turn_us(job.spec.vcpu_turn_us());
  launch.bundle = bundle.get();
  if (!machine->note.empty()) Note(reporter, machine->note);
  bool wanted = false;  // The machine of the next run.
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
                   absl::StrCat("engine ", vmm::EngineLabel(engine), ", ", HowItStarts(mode),
                                ", virtual time, seed ", scenario::SeedOf(job.spec.scenario()),
                                " (", engine_why, ")"));
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
      outcome.observations.push_back(StopObservation(*stop));
      return outcome;
    }
    // The waiting process may have been killed, which does not make its snapshot unusable.
    if (was_ahead) continue;
    Note(reporter, absl::StrCat("snapshot unusable: ", *result.no_snapshot));
    snapshots_->Drop(identity);
    prepared_->Drop(identity);
    snapshot = nullptr;
    mode = mode == v1::VmStart::RESTORE ? v1::VmStart::SNAPSHOT : v1::VmStart::BOOT;
  }
}

// The starter shares ownership of machine and snapshot: it may run after this run's end.
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
