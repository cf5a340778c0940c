// SPDX-License-Identifier: Apache-2.0
#include "daemon/machine_runner.h"

#include <fcntl.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/status_macros.h"
#include "daemon/fingerprint.h"
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

// The scheduler was gone before there was anything to test.
bool EndedBeforeSteps(const std::vector<v1::Observation>& observations) {
  bool ended = false;
  for (const v1::Observation& seen : observations) {
    if (seen.has_step_mark()) return false;
    ended |=
        seen.has_scheduler_exit() && seen.scheduler_exit().cause() != v1::SchedulerExit::STOPPED;
  }
  return ended;
}

}  // namespace

struct MachineRunner::Machine {
  const vmm::Engine* engine = nullptr;
  vmm::EngineFile engine_file;
  v1::VmStart start;
  base::UniqueFd kernel;
  BootImage boot;
  std::string kernel_digest;
  std::string identity;  // vmm::SnapshotIdentity(); empty: not known.
  bool warm = false;     // It can have a snapshot, of this identity.
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

absl::Status MachineRunner::Identify(const v1::LaunchPlan& plan, Machine* machine) {
  const absl::StatusOr<vmm::EngineIdentity> engine =
      probe_.Get(*machine->engine, machine->engine_file);
  if (!engine.ok() || machine->kernel_digest.empty()) return absl::OkStatus();
  KTSTR_ASSIGN_OR_RETURN(machine->identity,
                         vmm::SnapshotIdentity(*machine->engine, plan, *engine,
                                               machine->kernel_digest, machine->boot.digest));
  machine->start.set_engine_version(engine->version);
  return absl::OkStatus();
}

absl::StatusOr<bool> MachineRunner::PlanWarmStart(vmm::LaunchRequest request, Machine* machine) {
  request.bundle_bytes = vmm::BundleCapacity(request.bundle_bytes);
  absl::StatusOr<v1::LaunchPlan> plan = vmm::MakeLaunchPlan(request, *machine->engine);
  if (!plan.ok()) return false;  // Too large with spare room for bundles; cold it may fit.
  KTSTR_RETURN_IF_ERROR(Identify(*plan, machine));
  if (machine->identity.empty()) return false;
  *machine->start.mutable_plan() = *std::move(plan);
  return true;
}

absl::StatusOr<std::shared_ptr<const MachineRunner::Machine>> MachineRunner::MakeMachine(
    const RunJob& job, const cache::ResolvedKernel& kernel, v1::Engine engine,
    uint64_t bundle_bytes) {
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
  request.bundle_bytes = bundle_bytes;
  request.dmesg = spec.dmesg();
  if (spec.warm() != v1::WARM_OFF) {
    KTSTR_ASSIGN_OR_RETURN(machine.warm, PlanWarmStart(request, &machine));
  }
  if (!machine.warm) {
    KTSTR_ASSIGN_OR_RETURN(*start.mutable_plan(), vmm::MakeLaunchPlan(request, *machine.engine));
    KTSTR_RETURN_IF_ERROR(Identify(start.plan(), &machine));
  }
  const uint64_t mib = vmm::MemoryBytes(start.plan()) >> 20;
  machine.label = absl::StrCat(kernel.metadata.release(), " ", topology.Label(), " ", mib, " MiB");
  if (mib > request.memory_mb) {
    machine.note = absl::StrCat("guest memory raised from ", request.memory_mb, " to ", mib,
                                " MiB: kernel, boot image and bundle need it");
  }
  return made;
}

std::string AttachedIdentity(uid_t uid, const v1::RunSpec& spec, const v1::GuestPlan& attach) {
  return absl::StrCat("attached for uid ", uid, "\n", BundleContent(spec, attach));
}

namespace {

v1::VmRun MakeVmRun(const RunJob& job) {
  v1::VmRun run;
  run.set_run_id(RunId(job.number));
  run.set_timeout_ms(TimeoutMs(job.spec));
  run.set_take_digest(true);
  run.set_guest_limit_ms(scenario::GuestLimitMs(job.spec.scenario()));
  run.set_attach_limit_ms(scenario::AttachTimeoutMs(job.spec.scenario()));
  if (job.spec.has_vcpu_turn_us()) run.set_vcpu_turn_us(job.spec.vcpu_turn_us());
  return run;
}

}  // namespace

v1::Timings::Start MachineRunner::AskedStart(const Machine& machine, const Bundles& bundles) {
  if (!machine.warm) return v1::Timings::BOOT;
  return bundles.attached.has_value() ? v1::Timings::ATTACHED : v1::Timings::RESTORE;
}

std::string MachineRunner::InputsOf(const Machine& machine, const Bundles& bundles,
                                    v1::Timings::Start start, const v1::VmRun& run) {
  if (machine.identity.empty()) return {};
  return ExecutionInputs(
      {.machine = machine.identity,
       .start = start,
       .attached = start == v1::Timings::ATTACHED ? bundles.attached->identity : "",
       .bundle = bundles.content,
       .run = run});
}

absl::StatusOr<std::string> MachineRunner::Inputs(const RunJob& job,
                                                  const cache::ResolvedKernel& kernel,
                                                  v1::Engine engine, const Bundles& bundles) {
  KTSTR_ASSIGN_OR_RETURN(const std::shared_ptr<const Machine> machine,
                         MakeMachine(job, kernel, engine, bundles.bytes));
  return InputsOf(*machine, bundles, AskedStart(*machine, bundles), MakeVmRun(job));
}

struct MachineRunner::Course {
  const RunJob& job;
  const Bundles& bundles;
  RunReporter& reporter;
  const VmListener& listener;
  const std::string engine;      // For people.
  const std::string engine_why;  // The reason for it, also.
  std::shared_ptr<const Machine> machine;
  VmLaunch launch;
  v1::VmStart::Mode mode = v1::VmStart::BOOT;
  bool told_start = false;
  Snapshots::Handle ready;  // The machine's; null: none.
  std::string attached_identity;
  Snapshots::Handle attached;  // Null: none.
  Outcome outcome;

  void TellStart(const std::string& how) {
    if (std::exchange(told_start, true)) return;
    reporter.Phase(v1::RunPhase::STARTING,
                   absl::StrCat("engine ", engine, ", ", how, ", virtual time, seed ",
                                scenario::SeedOf(job.spec.scenario()), " (", engine_why, ")"));
  }
  // The run is over before its machine has run.
  bool Stopped() {
    const std::optional<StopRequest> stop = reporter.stop();
    if (!stop.has_value()) return false;
    outcome.observations.push_back(StopObservation(*stop));
    return true;
  }
};

absl::StatusOr<MachineRunner::Outcome> MachineRunner::Run(
    const RunJob& job, const cache::ResolvedKernel& kernel, v1::Engine engine,
    const std::string& engine_why, const Bundles& bundles, RunReporter& reporter,
    const VmListener& listener) {
  const absl::Duration begin = base::RealClock()->Monotonic();
  Course course = {.job = job,
                   .bundles = bundles,
                   .reporter = reporter,
                   .listener = listener,
                   .engine = vmm::EngineLabel(engine),
                   .engine_why = engine_why};
  KTSTR_ASSIGN_OR_RETURN(course.machine, MakeMachine(job, kernel, engine, bundles.bytes));
  const std::string& identity = course.machine->identity;
  if (course.machine->warm) {
    std::string note;
    course.ready = snapshots_->Find(identity, &note);
    if (!note.empty()) Note(reporter, absl::StrCat("snapshot unusable: ", note));
    course.mode = course.ready == nullptr ? v1::VmStart::SNAPSHOT : v1::VmStart::RESTORE;
  }
  VmLaunch& launch = course.launch;
  launch.program = options_.vm_program;
  launch.start = course.machine->start;
  launch.run = MakeVmRun(job);
  if (!course.machine->note.empty()) Note(reporter, course.machine->note);
  if (course.machine->warm && bundles.attached.has_value()) Attach(&course);
  Outcome& outcome = course.outcome;
  outcome.before_engine = base::RealClock()->Monotonic() - begin;
  while (outcome.observations.empty() && !RunOnce(&course)) {
  }
  const v1::Timings::Start start =
      outcome.as_asked ? AskedStart(*course.machine, bundles) : outcome.start;
  outcome.inputs = InputsOf(*course.machine, bundles, start, launch.run);
  return std::move(outcome);
}

void MachineRunner::Attach(Course* course) {
  course->attached_identity =
      absl::StrCat(course->machine->identity, course->bundles.attached->identity);
  const std::string& identity = course->attached_identity;
  const auto find = [&] {
    std::string note;
    course->attached = snapshots_->Find(identity, &note);
    if (!note.empty())
      Note(course->reporter, absl::StrCat("snapshot of the attached scheduler unusable: ", note));
    return course->attached != nullptr || snapshots_->Impossible(identity);
  };
  if (find()) return;
  const std::unique_ptr<Snapshots::Turn> turn =
      snapshots_->AwaitTurn(identity, [course] { return course->reporter.stop().has_value(); });
  if (course->Stopped() || find()) return;
  MakeAttached(course);
}

void MachineRunner::MakeAttached(Course* course) {
  const absl::Duration begin = base::RealClock()->Monotonic();
  const auto info = [&](const std::string& identity) {
    const absl::Duration took = base::RealClock()->Monotonic() - begin;
    return cache::SnapshotInfo{identity, course->machine->label, std::nullopt,
                               static_cast<uint32_t>(absl::ToInt64Milliseconds(took))};
  };
  const VmListener listener = {
      .observation =
          [course](const v1::Observation& seen) {
            // The run's own machine reports all of this again.
            if (seen.stage().stage() == v1::READY || seen.has_attach_progress())
              course->listener.observation(seen);
          },
      .progress =
          [course](const v1::VmProgress& said) {
            if (course->mode == v1::VmStart::SNAPSHOT) course->listener.progress(said);
          },
      .console = course->listener.console,
      .snapshot =
          [&](vmm::Snapshot taken, bool attached) {
            if (!attached) {
              course->ready = snapshots_->Add(info(course->machine->identity), std::move(taken));
              return;
            }
            cache::SnapshotInfo about = info(course->attached_identity);
            about.owner = course->job.uid;
            absl::StrAppend(&about.label, ", ", course->bundles.attached->label);
            course->attached = snapshots_->Add(std::move(about), std::move(taken));
          }};
  // From the machine's snapshot, and if that is unusable, from a new one.
  for (int attempt = 0; attempt < 2; ++attempt) {
    VmLaunch launch = course->launch;
    launch.start.set_mode(course->mode);
    launch.start.set_until_attached(true);
    launch.run.clear_vcpu_turn_us();  // Runs with any turn start from the snapshot.
    launch.bundle = course->bundles.attached->attach.get();
    launch.fds = course->machine->Fds(course->ready.get());
    course->TellStart(
        absl::StrCat(HowItStarts(course->mode), ", attaches once for a snapshot, then attached"));
    VmResult result = RunVm(launch, course->reporter, listener);
    if (course->Stopped()) return;
    const bool restored = course->mode == v1::VmStart::RESTORE;
    if (course->ready != nullptr) course->mode = v1::VmStart::RESTORE;
    if (course->attached != nullptr) return;
    // The guest did not boot.
    course->outcome.observations = std::move(result.observations);
    course->outcome.start = v1::Timings::RESTORE;
    if (!result.no_snapshot.has_value()) return;
    if (result.not_attached) {
      Note(course->reporter,
           absl::StrCat("no snapshot of the attached scheduler, so the run attaches it itself: ",
                        *result.no_snapshot));
      if (!result.may_pass) snapshots_->MarkImpossible(course->attached_identity);
      course->outcome.as_asked = !result.may_pass;
      return;
    }
    Note(course->reporter, absl::StrCat("snapshot unusable: ", *result.no_snapshot));
    snapshots_->Drop(course->machine->identity);
    prepared_->Drop(PreparedName(course->machine->identity));
    course->ready = nullptr;
    course->mode = restored ? v1::VmStart::SNAPSHOT : v1::VmStart::BOOT;
    course->outcome.as_asked = restored;
    if (!restored) return;
  }
}

std::string MachineRunner::PreparedName(const std::string& identity) const {
  return absl::StrCat(identity, ProgramIdentity(options_.vm_program).value_or(""));
}

bool MachineRunner::RunOnce(Course* course) {
  const std::shared_ptr<const Machine>& machine = course->machine;
  const bool attached = course->attached != nullptr;
  const std::string& identity = attached ? course->attached_identity : machine->identity;
  const bool restores = attached || course->mode == v1::VmStart::RESTORE;
  Snapshots::Handle snapshot = attached ? course->attached : course->ready;
  const absl::Duration begin = base::RealClock()->Monotonic();
  const VmListener listener = {
      .observation =
          [&](const v1::Observation& seen) {
            // Of a snapshot, not of this run.
            if (attached && (seen.stage().stage() == v1::READY || seen.has_attach_progress()))
              return;
            course->listener.observation(seen);
          },
      .progress = course->listener.progress,
      .console = course->listener.console,
      .snapshot =
          [&](vmm::Snapshot taken, bool) {
            const absl::Duration took = base::RealClock()->Monotonic() - begin;
            snapshot = snapshots_->Add({identity, machine->label, std::nullopt,
                                        static_cast<uint32_t>(absl::ToInt64Milliseconds(took))},
                                       std::move(taken));
            course->ready = snapshot;
          }};
  VmLaunch& launch = course->launch;
  launch.start.set_mode(restores ? v1::VmStart::RESTORE : course->mode);
  launch.fds = machine->Fds(restores ? snapshot.get() : nullptr);
  launch.bundle = attached ? course->bundles.attached->plan.get() : course->bundles.whole.get();
  course->TellStart(attached ? "attached" : HowItStarts(course->mode));
  Outcome& outcome = course->outcome;
  outcome.start = attached                            ? v1::Timings::ATTACHED
                  : course->mode == v1::VmStart::BOOT ? v1::Timings::BOOT
                                                      : v1::Timings::RESTORE;
  std::optional<VmProcess> ahead =
      restores ? prepared_->Take(PreparedName(identity), course->job.uid) : std::nullopt;
  launch.run.set_rewind(restores);
  const bool was_ahead = ahead.has_value();
  VmResult result = RunVm(launch, course->reporter, listener, std::move(ahead));
  if (result.rewound.has_value()) {
    prepared_->Put(PreparedName(identity), course->job.uid, *std::move(result.rewound));
  } else if (snapshot != nullptr && !result.no_snapshot.has_value()) {
    prepared_->Want(PreparedName(identity), course->job.uid, Restorer(machine, snapshot));
  }
  outcome.observations = std::move(result.observations);
  NoteUnkept(course, machine->identity);
  if (attached) NoteUnkept(course, identity);
  const bool fell =
      attached && !result.no_snapshot.has_value() && EndedBeforeSteps(outcome.observations);
  if (!result.no_snapshot.has_value() && !fell) return true;
  outcome.observations.clear();
  if (course->Stopped()) return true;
  // The waiting process may have been killed, which does not make its snapshot unusable.
  if (was_ahead && !fell) return false;
  course->told_start = false;
  if (fell) {
    Note(course->reporter,
         "the scheduler of the snapshot ended before the first step, so the run attaches it "
         "itself");
    // Another seed or scenario may do better.
    course->attached = nullptr;
    return false;
  }
  if (attached) {
    Note(course->reporter,
         absl::StrCat("snapshot of the attached scheduler unusable: ", *result.no_snapshot));
    course->attached = nullptr;
    outcome.as_asked = false;
  } else {
    Note(course->reporter, absl::StrCat("snapshot unusable: ", *result.no_snapshot));
    course->ready = nullptr;
    course->mode = restores ? v1::VmStart::SNAPSHOT : v1::VmStart::BOOT;
    outcome.as_asked = outcome.as_asked && restores;
  }
  snapshots_->Drop(identity);
  prepared_->Drop(PreparedName(identity));
  return false;
}

void MachineRunner::NoteUnkept(Course* course, const std::string& identity) {
  const std::string why = snapshots_->TakeUnkept(identity);
  if (why.empty()) return;
  Note(course->reporter,
       absl::StrCat(
           "snapshot not kept on disk, so the first run after the daemon's end makes it again: ",
           why));
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
