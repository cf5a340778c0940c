// SPDX-License-Identifier: Apache-2.0
#include "vmm/process.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/seqpacket.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "ktstr/v1/vm.pb.h"
#include "scenario/evaluate.h"
#include "scenario/topology.h"
#include "vmm/descriptors.h"
#include "vmm/engine.h"
#include "vmm/launch_plan.h"
#include "vmm/session.h"

namespace ktstr::vmm {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(60);
// In guest time. The slowest kernel measured takes 14 s until the agent is ready (Debian's 6.1 on
// one CPU, with its log on the console).
constexpr absl::Duration kBootLimit = absl::Seconds(200);
// In guest time, for taking CPUs offline and waiting until all is quiet: at most 1 s without a
// hang.
constexpr absl::Duration kDoneLimit = absl::Seconds(5);
constexpr absl::Duration kDoneLimitPerCpu = absl::Milliseconds(250);
// How often ktstr-vm reads the ring. It also reads it at every doorbell, so no frame is lost; the
// period bounds how late progress and a flood show.
constexpr int kRingPeriodMs = 20;

// A received message with its descriptors.
struct Received {
  v1::VmRequest request;
  std::vector<base::UniqueFd> fds;
};

// What to do with a machine.
struct RunOrder {
  v1::VmRun run;
  base::UniqueFd bundle;
};

absl::StatusOr<RunOrder> TakeRun(Received received) {
  if (!received.request.has_run()) {
    return absl::InvalidArgumentError("ktstr-vm: the second message is neither VmRun nor VmStop");
  }
  KTSTR_ASSIGN_OR_RETURN(Descriptors fds,
                         Descriptors::Of(received.request, std::move(received.fds)));
  RunOrder order{received.request.run(), {}};
  KTSTR_ASSIGN_OR_RETURN(order.bundle, fds.Take(kBundleName));
  KTSTR_RETURN_IF_ERROR(fds.ExpectNoMore());
  return order;
}

class Process {
 public:
  explicit Process(base::UniqueFd control) : control_(std::move(control)) {}

  // An error means that the daemon is gone.
  absl::Status Run();

 private:
  // What VmStart describes; a machine can start from it any number of times.
  struct Start {
    v1::VmStart request;
    const Engine* engine = nullptr;
    EngineFile engine_file;
    std::string version;
    base::UniqueFd kernel;
    base::UniqueFd boot_image;
    Snapshot snapshot;  // RESTORE
    const v1::LaunchPlan& plan() const { return request.plan(); }
    Launch launch() const {
      return {plan(),       engine_file,      version,
              kernel.get(), boot_image.get(), DefaultVcpuTurn(plan())};
    }
  };

  absl::StatusOr<Received> Receive(absl::Duration timeout);
  absl::StatusOr<Start> MakeStart(Received received);
  absl::Status ColdRun(const Start& start);
  absl::Status SnapshotRun(const Start& start);
  absl::Status RestoredRun(const Start& start);
  // Runs a machine that was restored onto a copy to its doorbell Attached, and sends the snapshot.
  absl::Status AttachRun(const Start& start, Machine* machine, const RunOrder& run,
                         absl::Duration started);
  absl::Status SendSnapshot(const Snapshot& snapshot, bool attached);
  // Boots a machine and lets the guest run. `bundle`: -1 when the guest is to stop at Ready.
  absl::StatusOr<std::unique_ptr<Machine>> Boot(const Start& start, absl::Duration vcpu_turn,
                                                int bundle, std::optional<Window>* window);
  absl::StatusOr<Snapshot> BootToReady(const Start& start, const v1::VmRun& run,
                                       absl::Duration started, bool* ended);
  // Waits for VmRun with the bundle; nullopt when there is none, and the daemon has the reason.
  // `prepared`: the restored machine that waits meanwhile, or null.
  absl::StatusOr<std::optional<RunOrder>> AwaitRun(Machine* prepared);
  static RestoredRam RamOf(const Start& start) {
    return start.request.until_attached() ? RestoredRam::kCopied : RestoredRam::kShared;
  }
  // Resumes a restored machine and follows it to its end. True: it is kept for another run.
  absl::StatusOr<bool> Begin(const Start& start, Machine* machine, const RunOrder& run,
                             absl::Duration started);
  Session::Options SessionOptions(const Start& start, const Machine& machine, const v1::VmRun& run);
  absl::StatusOr<Session::State> Follow(Machine* machine, Session* session);
  absl::Status HandleControl(Session* session);
  absl::Status SendObservation(v1::Observation observation);
  absl::Status SendEnd(v1::VmEnd end, bool rewinds = false);
  absl::Status SendEvent(v1::VmEvent event, const std::vector<NamedFd>& fds = {});
  // For a run that fails before its guest ran.
  absl::Status SendFailure(const absl::Status& status);
  absl::Status SendNoSnapshot(const absl::Status& status);
  // For a machine whose scheduler is not enabled. `may_pass`: as VmNoSnapshot.may_pass.
  absl::Status SendNotAttached(const absl::Status& status, bool may_pass);
  void SendProgress(std::string text);
  void NoteEngine(const Machine& machine) {
    if (!machine.EngineNote().empty()) SendProgress(machine.EngineNote());
  }

  base::UniqueFd control_;
  std::string engine_version_;  // Empty until MakeStart() has it.
};

absl::Duration Now() { return base::RealClock()->Monotonic(); }

absl::Duration VcpuTurn(const v1::VmRun& run, const v1::LaunchPlan& plan) {
  return run.has_vcpu_turn_us() ? absl::Microseconds(run.vcpu_turn_us()) : DefaultVcpuTurn(plan);
}

std::string Text(const absl::Status& status) {
  return base::SanitizeUtf8(std::string(status.message()));
}

absl::Status Process::SendEvent(v1::VmEvent event, const std::vector<NamedFd>& fds) {
  return SendMessage(control_.get(), std::move(event), fds);
}

absl::Status Process::SendObservation(v1::Observation observation) {
  v1::VmEvent event;
  *event.mutable_observation() = std::move(observation);
  return SendEvent(std::move(event));
}

absl::Status Process::SendEnd(v1::VmEnd end, bool rewinds) {
  v1::VmEvent event;
  *event.mutable_observation()->mutable_vm_end() = std::move(end);
  event.set_rewinds(rewinds);
  return SendEvent(std::move(event));
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
  return SendEvent(std::move(event));
}

absl::Status Process::SendNotAttached(const absl::Status& status, bool may_pass) {
  v1::VmEvent event;
  event.mutable_no_snapshot()->set_reason(Text(status));
  event.mutable_no_snapshot()->set_not_attached(true);
  event.mutable_no_snapshot()->set_may_pass(may_pass);
  return SendEvent(std::move(event));
}

absl::Status Process::SendSnapshot(const Snapshot& snapshot, bool attached) {
  v1::VmEvent event;
  event.mutable_snapshot()->set_attached(attached);
  return SendEvent(std::move(event), SnapshotFds(snapshot));
}

// Continues after an error: when the daemon is gone, the next observation fails.
void Process::SendProgress(std::string text) {
  v1::VmEvent event;
  event.mutable_progress()->set_text(std::move(text));
  absl::Status sent = SendEvent(std::move(event));
  if (!sent.ok()) KTSTR_LOG(WARNING) << "progress: " << sent;
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
  absl::StatusOr<Start> start = MakeStart(std::move(received));
  if (!start.ok()) return SendFailure(start.status());
  switch (start->request.mode()) {
    case v1::VmStart::SNAPSHOT:
      return SnapshotRun(*start);
    case v1::VmStart::RESTORE:
      return RestoredRun(*start);
    default:
      return ColdRun(*start);
  }
}

absl::StatusOr<Process::Start> Process::MakeStart(Received received) {
  if (!received.request.has_start()) {
    return absl::InvalidArgumentError("ktstr-vm: the first message is no VmStart");
  }
  Start start;
  start.request = received.request.start();
  KTSTR_ASSIGN_OR_RETURN(start.engine, FindEngine(start.request.engine()));
  KTSTR_RETURN_IF_ERROR(CheckLaunchPlan(start.plan()));
  KTSTR_ASSIGN_OR_RETURN(Descriptors fds,
                         Descriptors::Of(received.request, std::move(received.fds)));
  KTSTR_ASSIGN_OR_RETURN(start.kernel, fds.Take(kKernelName));
  KTSTR_ASSIGN_OR_RETURN(start.boot_image, fds.Take(kBootImageName));
  start.engine_file.path = start.request.engine_path();
  KTSTR_ASSIGN_OR_RETURN(start.engine_file.fd, fds.Take(kEngineName));
  if (start.request.mode() == v1::VmStart::RESTORE) {
    KTSTR_ASSIGN_OR_RETURN(start.snapshot, TakeSnapshotFds(&fds));
  }
  KTSTR_RETURN_IF_ERROR(fds.ExpectNoMore());
  start.version = start.request.engine_version();
  if (start.version.empty()) {
    KTSTR_ASSIGN_OR_RETURN(EngineIdentity identity, start.engine->Identity(start.engine_file));
    start.version = std::move(identity.version);
  }
  engine_version_ = start.version;
  return start;
}

absl::StatusOr<std::unique_ptr<Machine>> Process::Boot(const Start& start, absl::Duration vcpu_turn,
                                                       int bundle, std::optional<Window>* window) {
  const v1::LaunchPlan& plan = start.plan();
  KTSTR_ASSIGN_OR_RETURN(const scenario::Topology topology,
                         scenario::Topology::FromProto(plan.topology()));
  KTSTR_ASSIGN_OR_RETURN(
      std::unique_ptr<SharedMemory> memory,
      SharedMemory::Create({plan.node_memory().begin(), plan.node_memory().end()}));
  KTSTR_ASSIGN_OR_RETURN(*window,
                         Window::Create(memory.get(), plan.window_address(), plan.window_size(),
                                        bundle < 0 ? window::kFlagStopAtReady : 0));
  if (bundle >= 0) KTSTR_RETURN_IF_ERROR((*window)->WriteBundle(bundle));
  SendProgress(absl::StrCat("booting ", topology.Label(), " (", topology.num_cpus(), " CPUs, ",
                            MemoryBytes(plan) >> 20, " MiB) with ", start.version));
  Launch launch = start.launch();
  launch.vcpu_turn = vcpu_turn;
  return start.engine->Boot(launch, std::move(memory));
}

absl::Status Process::ColdRun(const Start& start) {
  KTSTR_ASSIGN_OR_RETURN(std::optional<RunOrder> run, AwaitRun(nullptr));
  if (!run.has_value()) return absl::OkStatus();
  const absl::Duration started = Now();
  std::optional<Window> window;
  absl::StatusOr<std::unique_ptr<Machine>> machine =
      Boot(start, VcpuTurn(run->run, start.plan()), run->bundle.get(), &window);
  if (!machine.ok()) return SendFailure(machine.status());
  Session session(machine->get(), *std::move(window), started,
                  SessionOptions(start, **machine, run->run));
  KTSTR_RETURN_IF_ERROR(Follow(machine->get(), &session).status());
  return SendEnd(session.end());
}

// `*ended`: the guest did not reach Ready, and the run is over.
absl::StatusOr<Snapshot> Process::BootToReady(const Start& start, const v1::VmRun& run,
                                              absl::Duration started, bool* ended) {
  std::optional<Window> window;
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<Machine> machine,
                         Boot(start, DefaultVcpuTurn(start.plan()), -1, &window));
  Session::Options options = SessionOptions(start, *machine, run);
  options.until = window::kDoorbellReady;
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

absl::Status Process::SnapshotRun(const Start& start) {
  KTSTR_ASSIGN_OR_RETURN(std::optional<RunOrder> run, AwaitRun(nullptr));
  if (!run.has_value()) return absl::OkStatus();
  const absl::Duration started = Now();
  bool ended = false;
  absl::StatusOr<Snapshot> snapshot = BootToReady(start, run->run, started, &ended);
  if (ended) return absl::IsAborted(snapshot.status()) ? absl::OkStatus() : snapshot.status();
  if (!snapshot.ok()) return SendNoSnapshot(snapshot.status());
  KTSTR_RETURN_IF_ERROR(SendSnapshot(*snapshot, /*attached=*/false));
  absl::StatusOr<std::unique_ptr<Machine>> machine =
      start.engine->Restore(start.launch(), *snapshot, RamOf(start));
  if (!machine.ok()) return SendNoSnapshot(machine.status());
  if (start.request.until_attached()) return AttachRun(start, machine->get(), *run, started);
  return Begin(start, machine->get(), *run, started).status();
}

absl::Status Process::AttachRun(const Start& start, Machine* machine, const RunOrder& run,
                                absl::Duration started) {
  Window window =
      Window::Attach(&machine->Memory(), start.plan().window_address(), start.plan().window_size());
  Session::Options options = SessionOptions(start, *machine, run.run);
  options.until = window::kDoorbellAttached;
  Session session(machine, std::move(window), started, std::move(options));
  KTSTR_RETURN_IF_ERROR(session.Begin(run.bundle.get()));
  KTSTR_ASSIGN_OR_RETURN(const Session::State state, Follow(machine, &session));
  if (state == Session::State::kEnded) {
    const v1::VmEnd& end = session.end();
    const bool host = end.cause() == v1::VmEnd::TIMEOUT ||
                      end.cause() == v1::VmEnd::ENGINE_FAILED ||
                      end.cause() == v1::VmEnd::CANCELLED;
    return SendNotAttached(
        absl::AbortedError(end.detail().empty() ? "the scheduler was not enabled" : end.detail()),
        /*may_pass=*/host);
  }
  if (!session.RingIsWhole()) {
    return SendNotAttached(
        absl::ResourceExhaustedError("the scheduler's start filled the ring of observations"),
        /*may_pass=*/false);
  }
  absl::StatusOr<Snapshot> snapshot = machine->TakeSnapshot();
  if (!snapshot.ok()) return SendNotAttached(snapshot.status(), /*may_pass=*/true);
  return SendSnapshot(*snapshot, /*attached=*/true);
}

absl::Status Process::RestoredRun(const Start& start) {
  absl::Duration started = Now();
  absl::StatusOr<std::unique_ptr<Machine>> machine =
      start.engine->Restore(start.launch(), start.snapshot, RamOf(start));
  if (!machine.ok()) return SendNoSnapshot(machine.status());
  v1::VmEvent prepared;
  prepared.mutable_prepared();
  KTSTR_RETURN_IF_ERROR(SendEvent(std::move(prepared)));
  while (true) {
    pollfd waiting = {control_.get(), POLLIN, 0};
    const bool asked_for = poll(&waiting, 1, 0) == 1;
    KTSTR_ASSIGN_OR_RETURN(std::optional<RunOrder> run, AwaitRun(machine->get()));
    if (!run.has_value()) return absl::OkStatus();
    // The times of a machine that was prepared ahead count from its VmRun.
    if (!asked_for) started = Now();
    if (start.request.until_attached()) return AttachRun(start, machine->get(), *run, started);
    KTSTR_ASSIGN_OR_RETURN(const bool kept, Begin(start, machine->get(), *run, started));
    if (!kept) return absl::OkStatus();
    started = Now();
    if (const absl::Status rewound = (*machine)->Rewind(); !rewound.ok()) {
      KTSTR_LOG(WARNING) << "machine not rewound: " << rewound;
      return absl::OkStatus();
    }
  }
}

absl::StatusOr<std::optional<RunOrder>> Process::AwaitRun(Machine* prepared) {
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
    return std::optional<RunOrder>();
  }
  KTSTR_ASSIGN_OR_RETURN(Received received, Receive(absl::ZeroDuration()));
  v1::VmEnd end;
  if (received.request.has_stop()) {
    end.set_cause(v1::VmEnd::CANCELLED);
    end.set_detail(received.request.stop().reason());
  } else {
    absl::StatusOr<RunOrder> order = TakeRun(std::move(received));
    if (order.ok()) return std::optional<RunOrder>(*std::move(order));
    end.set_cause(v1::VmEnd::ENGINE_FAILED);
    end.set_detail(Text(order.status()));
  }
  end.set_engine_version(engine_version_);
  KTSTR_RETURN_IF_ERROR(SendEnd(std::move(end)));
  return std::optional<RunOrder>();
}

absl::StatusOr<bool> Process::Begin(const Start& start, Machine* machine, const RunOrder& run,
                                    absl::Duration started) {
  NoteEngine(*machine);
  Window window =
      Window::Attach(&machine->Memory(), start.plan().window_address(), start.plan().window_size());
  Session session(machine, std::move(window), started, SessionOptions(start, *machine, run.run));
  KTSTR_RETURN_IF_ERROR(machine->SetVcpuTurn(VcpuTurn(run.run, start.plan())));
  KTSTR_RETURN_IF_ERROR(session.Begin(run.bundle.get()));
  KTSTR_RETURN_IF_ERROR(Follow(machine, &session).status());
  const bool kept = session.MachineIsKept();
  KTSTR_RETURN_IF_ERROR(SendEnd(session.end(), kept));
  return kept;
}

Session::Options Process::SessionOptions(const Start& start, const Machine& machine,
                                         const v1::VmRun& run) {
  Session::Options options;
  options.vcpu_mips = start.engine->VcpuMips(start.plan());
  const absl::Duration turn = VcpuTurn(run, start.plan());
  options.turns = machine.HasBoundedTurns() && turn > absl::ZeroDuration()
                      ? absl::StrCat(absl::ToInt64Microseconds(turn), "us")
                      : std::string(scenario::kUnboundedTurns);
  options.timeout = absl::Milliseconds(run.timeout_ms());
  options.boot_limit = kBootLimit;
  if (run.guest_limit_ms() != 0) options.run_limit = absl::Milliseconds(run.guest_limit_ms());
  options.attach_limit = absl::Milliseconds(std::min(run.attach_limit_ms(), run.guest_limit_ms()));
  // MakeStart() has refused an invalid topology already.
  const auto topology = scenario::Topology::FromProto(start.plan().topology());
  options.done_limit = kDoneLimit + (topology.ok() ? topology->num_cpus() : 1) * kDoneLimitPerCpu;
  options.take_digest = run.take_digest();
  options.keep_machine = run.rewind() && start.request.mode() == v1::VmStart::RESTORE &&
                         !start.request.until_attached();
  options.symbols = [kernel = start.kernel.get()] { return KernelSymbols::Read(kernel); };
  options.observe = [this](v1::Observation o) { return SendObservation(std::move(o)); };
  options.progress = [this](std::string text) { SendProgress(std::move(text)); };
  if (start.request.send_console()) {
    options.console = [this](std::string text) {
      v1::VmEvent event;
      event.mutable_console()->set_text(std::move(text));
      return SendEvent(std::move(event));
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

// Steps the session to its end, or to its stop at Ready.
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
  // The answer to a bell whose QEMU has died.
  signal(SIGPIPE, SIG_IGN);
  absl::Status status = Process(std::move(control)).Run();
  if (status.ok()) return 0;
  KTSTR_LOG(WARNING) << "ktstr-vm: " << status;
  return 1;
}

}  // namespace ktstr::vmm
