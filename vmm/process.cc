// SPDX-License-Identifier: Apache-2.0
#include "vmm/process.h"

#include <poll.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/seqpacket.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "ktstr/v1/vm.pb.h"
#include "scenario/topology.h"
#include "vmm/launch_plan.h"
#include "vmm/qemu/machine.h"
#include "vmm/session.h"

namespace ktstr::vmm {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(60);
// How often the ring is read. It is read at every doorbell anyway, so no frame is ever lost; this
// is how fresh progress is, and how soon a flood is noticed.
constexpr int kRingPeriodMs = 20;

// Order of VmStart's descriptors; those of a snapshot follow.
enum StartFd { kKernel, kBootImage, kProgram, kStartFds };

// A message that came, with its descriptors.
struct Received {
  v1::VmRequest request;
  std::vector<base::UniqueFd> fds;
};

class Process {
 public:
  explicit Process(base::UniqueFd control) : control_(std::move(control)) {}

  // An error is the control socket's: the daemon is gone.
  absl::Status Run();

 private:
  // What VmStart asked for, ready to be started as often as needed.
  struct Launch {
    v1::VmStart start;
    std::vector<base::UniqueFd> files;  // StartFd
    LaunchPlan plan;
    qemu::Version version;
    Snapshot snapshot;  // RESTORE
    qemu::BootFiles BootFiles() const {
      return {files[kKernel].get(), files[kBootImage].get(), files[kProgram].get(),
              start.engine_path()};
    }
  };

  absl::StatusOr<Received> Receive(absl::Duration timeout);
  absl::StatusOr<Launch> MakeLaunch(Received received);
  absl::Status ColdRun(const Launch& launch);
  absl::Status SnapshotRun(const Launch& launch);
  absl::Status RestoredRun(const Launch& launch);
  // A booted machine, let go. `bundle`: -1 when it is to stop at ready.
  absl::StatusOr<std::unique_ptr<Machine>> Boot(const Launch& launch, int bundle,
                                                std::optional<Window>* window);
  absl::StatusOr<Snapshot> BootToReady(const Launch& launch, const v1::VmRun& run,
                                       absl::Duration started, bool* ended);
  // VmRun with the bundle; nullopt when there will be none, and the daemon knows. `prepared`: a
  // machine that waits, or null.
  absl::StatusOr<std::optional<Received>> AwaitRun(Machine* prepared);
  // Lets a restored machine go, and follows it to its end.
  absl::Status Begin(const Launch& launch, Machine* machine, const Received& run,
                     absl::Duration started);
  Session::Options SessionOptions(const Launch& launch, const v1::VmRun& run);
  absl::StatusOr<Session::State> Follow(Machine* machine, Session* session);
  absl::Status HandleControl(Session* session);
  absl::Status SendObservation(v1::Observation observation);
  absl::Status SendEnd(v1::VmEnd end);
  absl::Status SendEvent(const v1::VmEvent& event, const std::vector<int>& fds = {});
  // The run fails before a guest did anything.
  absl::Status SendFailure(const absl::Status& status);
  absl::Status SendNoSnapshot(const absl::Status& status);
  void SendProgress(std::string text);
  void NoteEngine(const Machine& machine) {
    if (!machine.EngineNote().empty()) SendProgress(machine.EngineNote());
  }

  base::UniqueFd control_;
  std::string engine_version_;  // Known as soon as the engine was asked.
};

absl::Duration Now() { return base::RealClock()->Monotonic(); }

std::string Text(const absl::Status& status) {
  return base::SanitizeUtf8(std::string(status.message()));
}

absl::Status Process::SendEvent(const v1::VmEvent& event, const std::vector<int>& fds) {
  return base::SendPacket(control_.get(), event.SerializeAsString(), fds);
}

absl::Status Process::SendObservation(v1::Observation observation) {
  v1::VmEvent event;
  *event.mutable_observation() = std::move(observation);
  return SendEvent(event);
}

absl::Status Process::SendEnd(v1::VmEnd end) {
  v1::Observation observation;
  *observation.mutable_vm_end() = std::move(end);
  return SendObservation(std::move(observation));
}

absl::Status Process::SendFailure(const absl::Status& status) {
  v1::VmEnd end;
  end.set_cause(v1::VmEnd::ENGINE_FAILED);
  end.set_detail(Text(status));
  end.set_engine_version(engine_version_);
  return SendEnd(std::move(end));
}

absl::Status Process::SendNoSnapshot(const absl::Status& status) {
  v1::VmEvent event;
  event.mutable_no_snapshot()->set_reason(Text(status));
  return SendEvent(event);
}

// A lost line is no loss: the next observation finds out that the daemon is gone.
void Process::SendProgress(std::string text) {
  v1::VmEvent event;
  event.mutable_progress()->set_text(std::move(text));
  absl::Status sent = SendEvent(event);
  if (!sent.ok()) KTSTR_LOG(WARNING) << "progress: " << sent;
}

absl::StatusOr<uint64_t> SizeOf(const base::UniqueFd& fd, std::string_view what) {
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return base::ErrnoStatus(errno, what);
  return static_cast<uint64_t>(info.st_size);
}

absl::StatusOr<Received> Process::Receive(absl::Duration timeout) {
  KTSTR_ASSIGN_OR_RETURN(base::Packet packet, base::ReceivePacket(control_.get(), timeout));
  Received received;
  received.fds = std::move(packet.fds);
  if (!received.request.ParseFromString(packet.data)) received.request.Clear();
  return received;
}

absl::Status Process::Run() {
  KTSTR_ASSIGN_OR_RETURN(Received received, Receive(kStartTimeout));
  absl::StatusOr<Launch> launch = MakeLaunch(std::move(received));
  if (!launch.ok()) return SendFailure(launch.status());
  switch (launch->start.mode()) {
    case v1::VmStart::SNAPSHOT:
      return SnapshotRun(*launch);
    case v1::VmStart::RESTORE:
      return RestoredRun(*launch);
    default:
      return ColdRun(*launch);
  }
}

absl::StatusOr<Process::Launch> Process::MakeLaunch(Received received) {
  if (!received.request.has_start()) {
    return absl::InvalidArgumentError("ktstr-vm: the first message is no VmStart");
  }
  const v1::VmStart& start = received.request.start();
  if (start.engine() != v1::TCG) {
    return absl::UnimplementedError(
        absl::StrCat("engine ", v1::Engine_Name(start.engine()),
                     ": this version runs software emulation only; use --engine tcg"));
  }
  std::vector<base::UniqueFd>& fds = received.fds;
  KTSTR_ASSIGN_OR_RETURN(scenario::Topology topology,
                         scenario::Topology::FromProto(start.topology()));
  const size_t snapshot_fds =
      start.mode() == v1::VmStart::RESTORE ? 1 + static_cast<size_t>(topology.numa_nodes()) : 0;
  if (fds.size() != kStartFds + snapshot_fds) {
    return absl::InvalidArgumentError(absl::StrCat("ktstr-vm: VmStart came with ", fds.size(),
                                                   " descriptors instead of ",
                                                   kStartFds + snapshot_fds));
  }
  LaunchRequest request{topology};
  request.memory_mb = start.memory_mb();
  KTSTR_ASSIGN_OR_RETURN(request.kernel_bytes, SizeOf(fds[kKernel], "kernel"));
  KTSTR_ASSIGN_OR_RETURN(request.boot_image_bytes, SizeOf(fds[kBootImage], "boot image"));
  request.bundle_bytes = start.bundle_capacity();
  request.dmesg = start.dmesg();
  KTSTR_ASSIGN_OR_RETURN(LaunchPlan plan, MakeLaunchPlan(request));
  if (const uint64_t mib = plan.memory_bytes() >> 20; mib > start.memory_mb()) {
    SendProgress(absl::StrCat("guest memory raised from ", start.memory_mb(), " to ", mib,
                              " MiB: kernel, boot image and bundle need it"));
  }
  Launch launch{start, std::move(fds), std::move(plan), {}, {}};
  if (snapshot_fds != 0) {
    launch.snapshot.state = std::move(launch.files[kStartFds]);
    for (size_t i = kStartFds + 1; i < launch.files.size(); ++i) {
      launch.snapshot.ram.push_back(std::move(launch.files[i]));
    }
  }
  launch.files.resize(kStartFds);
  KTSTR_ASSIGN_OR_RETURN(launch.version, start.engine_version().empty()
                                             ? qemu::QueryVersion(launch.BootFiles())
                                             : qemu::ParseVersion(start.engine_version()));
  engine_version_ = launch.version.text;
  return launch;
}

absl::StatusOr<std::unique_ptr<Machine>> Process::Boot(const Launch& launch, int bundle,
                                                       std::optional<Window>* window) {
  const LaunchPlan& plan = launch.plan;
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<SharedMemory> memory,
                         SharedMemory::Create(plan.node_memory));
  KTSTR_ASSIGN_OR_RETURN(*window,
                         Window::Create(memory.get(), plan.window_address, plan.window_size,
                                        bundle < 0 ? window::kFlagStopAtReady : 0));
  if (bundle >= 0) KTSTR_RETURN_IF_ERROR((*window)->WriteBundle(bundle));
  SendProgress(absl::StrCat("booting ", plan.topology.Label(), " (", plan.topology.num_cpus(),
                            " CPUs, ", plan.memory_bytes() >> 20, " MiB) with ",
                            launch.version.text));
  return qemu::Boot(plan, launch.BootFiles(), launch.version, std::move(memory));
}

absl::Status Process::ColdRun(const Launch& launch) {
  KTSTR_ASSIGN_OR_RETURN(std::optional<Received> run, AwaitRun(nullptr));
  if (!run.has_value()) return absl::OkStatus();
  const absl::Duration started = Now();
  std::optional<Window> window;
  absl::StatusOr<std::unique_ptr<Machine>> machine = Boot(launch, run->fds[0].get(), &window);
  if (!machine.ok()) return SendFailure(machine.status());
  Session session(machine->get(), *std::move(window), started,
                  SessionOptions(launch, run->request.run()));
  KTSTR_RETURN_IF_ERROR(Follow(machine->get(), &session).status());
  return SendEnd(session.end());
}

// `*ended`: the guest did not come to ready, and the run has ended with that.
absl::StatusOr<Snapshot> Process::BootToReady(const Launch& launch, const v1::VmRun& run,
                                              absl::Duration started, bool* ended) {
  std::optional<Window> window;
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<Machine> machine, Boot(launch, -1, &window));
  Session::Options options = SessionOptions(launch, run);
  options.until_ready = true;
  std::vector<v1::Observation> boot;
  options.observe = [&boot](v1::Observation o) {
    boot.push_back(std::move(o));
    return absl::OkStatus();
  };
  Session session(machine.get(), *std::move(window), started, std::move(options));
  absl::StatusOr<Session::State> state = Follow(machine.get(), &session);
  *ended = !state.ok() || *state == Session::State::kEnded;
  KTSTR_RETURN_IF_ERROR(state.status());
  if (*ended) {
    for (v1::Observation& o : boot) KTSTR_RETURN_IF_ERROR(SendObservation(std::move(o)));
    KTSTR_RETURN_IF_ERROR(SendEnd(session.end()));
    return absl::AbortedError("the guest ended before it was ready");
  }
  return machine->TakeSnapshot();
}

absl::Status Process::SnapshotRun(const Launch& launch) {
  KTSTR_ASSIGN_OR_RETURN(std::optional<Received> run, AwaitRun(nullptr));
  if (!run.has_value()) return absl::OkStatus();
  const absl::Duration started = Now();
  bool ended = false;
  absl::StatusOr<Snapshot> snapshot = BootToReady(launch, run->request.run(), started, &ended);
  if (ended) return absl::IsAborted(snapshot.status()) ? absl::OkStatus() : snapshot.status();
  if (!snapshot.ok()) return SendNoSnapshot(snapshot.status());
  std::vector<int> fds = {snapshot->state.get()};
  for (const base::UniqueFd& ram : snapshot->ram) fds.push_back(ram.get());
  v1::VmEvent event;
  event.mutable_snapshot();
  KTSTR_RETURN_IF_ERROR(SendEvent(event, fds));
  absl::StatusOr<std::unique_ptr<Machine>> machine =
      qemu::Restore(launch.plan, launch.BootFiles(), launch.version, *snapshot);
  if (!machine.ok()) return SendNoSnapshot(machine.status());
  return Begin(launch, machine->get(), *run, started);
}

absl::Status Process::RestoredRun(const Launch& launch) {
  absl::Duration started = Now();
  absl::StatusOr<std::unique_ptr<Machine>> machine =
      qemu::Restore(launch.plan, launch.BootFiles(), launch.version, launch.snapshot);
  if (!machine.ok()) return SendNoSnapshot(machine.status());
  v1::VmEvent event;
  event.mutable_prepared();
  KTSTR_RETURN_IF_ERROR(SendEvent(event));
  pollfd waiting = {control_.get(), POLLIN, 0};
  const bool asked_for = poll(&waiting, 1, 0) == 1;
  KTSTR_ASSIGN_OR_RETURN(std::optional<Received> run, AwaitRun(machine->get()));
  if (!run.has_value()) return absl::OkStatus();
  // A machine that was prepared ahead starts when it is asked for.
  if (!asked_for) started = Now();
  return Begin(launch, machine->get(), *run, started);
}

absl::StatusOr<std::optional<Received>> Process::AwaitRun(Machine* prepared) {
  std::vector<pollfd> waits = {{control_.get(), POLLIN, 0}};
  if (prepared != nullptr) {
    for (int fd : prepared->PollFds()) waits.push_back({fd, POLLIN, 0});
  }
  while (waits[0].revents == 0) {
    if (poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) {
      return base::ErrnoStatus(errno, "poll");
    }
    if (prepared == nullptr || waits[0].revents != 0) continue;
    absl::StatusOr<std::optional<MachineEvent>> event = prepared->NextEvent();
    if (event.ok() && !event->has_value()) continue;
    KTSTR_RETURN_IF_ERROR(SendNoSnapshot(absl::UnavailableError(
        absl::StrCat("the engine ended while it waited for a run: ", prepared->EngineOutput()))));
    return std::optional<Received>();
  }
  KTSTR_ASSIGN_OR_RETURN(Received received, Receive(absl::ZeroDuration()));
  if (received.request.has_run() && received.fds.size() == 1) {
    return std::optional<Received>(std::move(received));
  }
  v1::VmEnd end;
  end.set_engine_version(engine_version_);
  if (received.request.has_stop()) {
    end.set_cause(v1::VmEnd::CANCELLED);
    end.set_detail(received.request.stop().reason());
  } else {
    end.set_cause(v1::VmEnd::ENGINE_FAILED);
    end.set_detail("ktstr-vm: the second message is no VmRun with one descriptor");
  }
  KTSTR_RETURN_IF_ERROR(SendEnd(std::move(end)));
  return std::optional<Received>();
}

absl::Status Process::Begin(const Launch& launch, Machine* machine, const Received& run,
                            absl::Duration started) {
  NoteEngine(*machine);
  Window window =
      Window::Attach(&machine->Memory(), launch.plan.window_address, launch.plan.window_size);
  Session session(machine, std::move(window), started, SessionOptions(launch, run.request.run()));
  KTSTR_RETURN_IF_ERROR(session.Begin(run.fds[0].get()));
  KTSTR_RETURN_IF_ERROR(Follow(machine, &session).status());
  return SendEnd(session.end());
}

Session::Options Process::SessionOptions(const Launch& launch, const v1::VmRun& run) {
  Session::Options options;
  options.timeout = absl::Milliseconds(run.timeout_ms());
  options.take_digest = run.take_digest();
  options.observe = [this](v1::Observation o) { return SendObservation(std::move(o)); };
  options.progress = [this](std::string text) { SendProgress(std::move(text)); };
  if (launch.start.dmesg()) {
    options.console = [this](std::string text) {
      v1::VmEvent event;
      event.mutable_console()->set_text(std::move(text));
      return SendEvent(event);
    };
  }
  return options;
}

absl::Status Process::HandleControl(Session* session) {
  KTSTR_ASSIGN_OR_RETURN(Received received, Receive(absl::ZeroDuration()));
  if (received.request.has_stop()) {
    session->Cancel(received.request.stop().reason());
  } else {
    session->Cancel("the daemon sent something other than VmStop");
  }
  return absl::OkStatus();
}

// To the end of the session, or to its stop at ready.
absl::StatusOr<Session::State> Process::Follow(Machine* machine, Session* session) {
  std::vector<pollfd> waits = {{control_.get(), POLLIN, 0}};
  for (int fd : machine->PollFds()) waits.push_back({fd, POLLIN, 0});
  while (true) {
    KTSTR_ASSIGN_OR_RETURN(Session::State state, session->Step());
    if (state != Session::State::kRuns) return state;
    if (poll(waits.data(), waits.size(), kRingPeriodMs) < 0 && errno != EINTR) {
      return base::ErrnoStatus(errno, "poll");
    }
    if (waits[0].revents != 0) KTSTR_RETURN_IF_ERROR(HandleControl(session));
  }
}

}  // namespace

int RunVmProcess(base::UniqueFd control) {
  absl::Status status = Process(std::move(control)).Run();
  if (status.ok()) return 0;
  KTSTR_LOG(WARNING) << "ktstr-vm: " << status;
  return 1;
}

}  // namespace ktstr::vmm
