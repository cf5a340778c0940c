// SPDX-License-Identifier: Apache-2.0
//
// A stand-in for ktstr-vm that speaks vm.proto and runs nothing. The plan names what it does, by a
// cgroup "fake-MODE":
// clang-format off
//   pass        one step, one worker, a good end
//   hang        runs until VmStop, then ends as it should
//   deaf        runs and ignores VmStop
//   die         kills itself with SIGKILL
//   leave       exits without a VmEnd
//   flood       sends observations without end
//   garbage     sends what is no VmEvent
//   panic       ends with a kernel panic
//   nosnapshot  passes, but can neither take nor restore a snapshot
//   unbounded   passes, with unbounded turns
//   rewinds     passes, and when it has been restored and is asked to, takes another run
//   sticks      the same, but ends instead of taking it
// clang-format on
// So does an argument of the scheduler, in the plan that attaches it and in the run's:
// clang-format off
//   noattach    the scheduler is not enabled for a snapshot; the run passes
//   hostfails   the attach fails through the host's fault; the run passes
//   slowattach  the attach lasts until VmStop; the run passes
//   falls       in a run from an attached snapshot the scheduler ends at once; else the run passes
// clang-format on
// On request it hands over a snapshot, and it restores only that one. It refuses to run with an
// environment, or with other descriptors than 0 to 3 and those of VmStart and VmRun, which it takes
// by name.
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/seqpacket.h"
#include "ktstr/v1/vm.pb.h"
#include "scenario/evaluate.h"
#include "vmm/descriptors.h"
#include "vmm/launch_plan.h"
#include "vmm/snapshot.h"

namespace ktstr::daemon {
namespace {

constexpr int kSocket = 3;
// In every file that a test gives to the run.
constexpr char kFileMark[] = "#!";

void Send(const v1::VmEvent& event) {
  if (!base::SendPacket(kSocket, event.SerializeAsString()).ok()) _exit(3);
}

void Observe(const v1::Observation& observation) {
  v1::VmEvent event;
  *event.mutable_observation() = observation;
  Send(event);
}

void Say(const std::string& text) {
  v1::VmEvent event;
  event.mutable_progress()->set_text(text);
  Send(event);
}

void Reach(v1::Stage stage) {
  v1::Observation observation;
  observation.mutable_stage()->set_stage(stage);
  Observe(observation);
}

void Mark(v1::StepMark::Edge edge) {
  v1::Observation observation;
  observation.mutable_step_mark()->set_edge(edge);
  Observe(observation);
}

void End(v1::VmEnd::Cause cause, const std::string& detail, v1::Stage stage,
         const std::string& turns = "100us", bool rewinds = false) {
  v1::VmEvent event;
  v1::VmEnd* end = event.mutable_observation()->mutable_vm_end();
  end->set_cause(cause);
  end->set_detail(detail);
  end->set_last_stage(stage);
  end->set_engine_version("fake 1");
  end->set_turns(turns);
  if (cause == v1::VmEnd::DONE) end->set_guest_digest(std::string(64, 'd'));
  if (cause == v1::VmEnd::PANIC) {
    end->set_console_tail("Kernel panic - not syncing: fake\n");
  }
  event.set_rewinds(rewinds);
  Send(event);
}

constexpr char kState[] = "fake state";
constexpr char kAttachedState[] = "fake state, attached";

// Hands over what a real ktstr-vm does: sealed memfds of device state and RAM.
void HandSnapshotOver(const v1::LaunchPlan& plan, bool attached) {
  base::UniqueFd state = *base::MakeMemfd("state", 0);
  base::UniqueFd ram = *base::MakeMemfd("ram", plan.node_memory(0));
  if (!base::WriteAll(state.get(), attached ? kAttachedState : kState, "state").ok() ||
      !base::WriteAll(ram.get(), std::string(9000, 'r'), "ram").ok() ||
      !base::SealMemfd(state.get(), "state").ok() || !base::SealMemfd(ram.get(), "ram").ok()) {
    _exit(3);
  }
  v1::VmEvent event;
  event.mutable_snapshot()->set_attached(attached);
  const std::vector<vmm::NamedFd> fds = {{vmm::kStateName, state.get()},
                                         {vmm::RamName(0), ram.get()}};
  if (!vmm::SendMessage(kSocket, event, fds).ok()) _exit(3);
}

void SayNoSnapshot(const std::string& reason, bool not_attached = false, bool may_pass = false) {
  v1::VmEvent event;
  event.mutable_no_snapshot()->set_reason(reason);
  event.mutable_no_snapshot()->set_not_attached(not_attached);
  event.mutable_no_snapshot()->set_may_pass(may_pass);
  Send(event);
}

// False: it has sent the reason.
bool Restore(const vmm::Snapshot& snapshot, bool* attached) {
  std::string state(100, '\0');
  const ssize_t got = pread(snapshot.state.get(), state.data(), state.size(), 0);
  state.resize(got < 0 ? 0 : static_cast<size_t>(got));
  *attached = state == kAttachedState;
  if (state != kState && !*attached) {
    SayNoSnapshot("the device state is another machine's");
    return false;
  }
  v1::VmEvent event;
  event.mutable_prepared();
  Send(event);
  return true;
}

std::string CheckSurroundings(size_t received) {
  if (environ != nullptr && environ[0] != nullptr) {
    return absl::StrCat("environment: ", environ[0]);
  }
  auto names = base::ListDir("/proc/self/fd");
  // 0 to 3, those received, and the directory itself.
  if (!names.ok() || names->size() != 5 + received) {
    return absl::StrCat(names->size(), " open descriptors");
  }
  return "";
}

std::string ModeOf(const std::string& bundle) {
  const size_t at = bundle.find("fake-");
  if (at == std::string::npos) return "";
  std::string mode;
  for (size_t i = at + 5; i < bundle.size() && bundle[i] >= 'a' && bundle[i] <= 'z'; ++i) {
    mode += bundle[i];
  }
  return mode;
}

void BeginRun(bool with_scheduler) {
  Reach(v1::INIT_STARTED);
  Reach(v1::READY);
  v1::Observation info;
  info.mutable_guest_info()->set_kernel_release("7.3.4-fake");
  info.mutable_guest_info()->set_online_cpus(1);
  info.mutable_guest_info()->set_has_sched_ext(true);
  Observe(info);
  if (with_scheduler) {
    v1::Observation state;
    state.mutable_scheduler_state()->set_state("enabled");
    state.mutable_scheduler_state()->set_ops("fake");
    Observe(state);
    Reach(v1::SCHEDULER_ENABLED);
  }
  Reach(v1::STEPS_RUNNING);
  Mark(v1::StepMark::BEGIN);
}

void Pass(bool with_scheduler, const std::string& turns = "100us", bool rewinds = false) {
  BeginRun(with_scheduler);
  Mark(v1::StepMark::END);
  Reach(v1::COLLECTING);
  v1::Observation report;
  v1::WorkerReport* worker = report.mutable_worker_report();
  worker->set_cgroup("fake-pass");
  worker->set_work_type("spin_wait");
  worker->set_work_units(1000);
  worker->set_iterations(10);
  worker->set_cpu_time_ns(2'000'000'000);
  worker->set_wall_time_ns(2'000'000'000);
  worker->add_cpus_used(0);
  Observe(report);
  if (with_scheduler) {
    v1::Observation exit;
    exit.mutable_scheduler_exit()->set_cause(v1::SchedulerExit::STOPPED);
    exit.mutable_scheduler_exit()->set_was_enabled(true);
    exit.mutable_scheduler_exit()->set_steps_completed(1);
    exit.mutable_scheduler_exit()->set_steps_total(1);
    Observe(exit);
  }
  Reach(v1::DONE);
  End(v1::VmEnd::DONE, "", v1::DONE, turns, rewinds);
}

void AwaitStop(bool deaf) {
  while (true) {
    auto packet = base::ReceivePacket(kSocket, absl::InfiniteDuration());
    if (!packet.ok()) _exit(1);
    v1::VmRequest request;
    if (deaf || !request.ParseFromString(packet->data) || !request.has_stop()) continue;
    End(v1::VmEnd::CANCELLED, request.stop().reason(), v1::STEPS_RUNNING);
    return;
  }
}

// The scheduler of an attached snapshot is gone.
void Fall() {
  Reach(v1::READY);
  Reach(v1::SCHEDULER_ENABLED);
  v1::Observation exit;
  exit.mutable_scheduler_exit()->set_cause(v1::SchedulerExit::PROCESS_EXITED);
  exit.mutable_scheduler_exit()->set_was_enabled(true);
  Observe(exit);
  Reach(v1::DONE);
  End(v1::VmEnd::DONE, "", v1::DONE);
}

void Attach(const std::string& mode, const v1::LaunchPlan& plan) {
  Reach(v1::READY);
  if (mode == "slowattach") {
    AwaitStop(/*deaf=*/false);
  } else if (mode == "hostfails") {
    SayNoSnapshot("the host's time limit was reached", /*not_attached=*/true, /*may_pass=*/true);
  } else if (mode == "noattach") {
    SayNoSnapshot("the scheduler was not enabled", /*not_attached=*/true);
  } else {
    HandSnapshotOver(plan, /*attached=*/true);
  }
}

// A machine that has its VmStart.
struct Machine {
  v1::VmStart::Mode how = v1::VmStart::BOOT;
  v1::LaunchPlan plan;
  size_t start_fds = 0;
  bool attached = false;
  bool until_attached = false;
};

// Returns the exit code; nullopt: it takes another run.
std::optional<int> RunOnce(const Machine& machine);

int Run() {
  auto start = base::ReceivePacket(kSocket, absl::Seconds(30));
  v1::VmRequest request;
  if (!start.ok() || !request.ParseFromString(start->data) || !request.has_start()) return 2;
  Machine machine;
  machine.how = request.start().mode();
  machine.plan = request.start().plan();
  machine.until_attached = request.start().until_attached();
  machine.start_fds = start->fds.size();
  auto named = vmm::Descriptors::Of(request, std::move(start->fds));
  if (!named.ok() || !vmm::CheckLaunchPlan(machine.plan).ok()) return 2;
  const auto kernel = named->Take(vmm::kKernelName);
  const auto boot_image = named->Take(vmm::kBootImageName);
  const auto engine = named->Take(vmm::kEngineName);
  absl::StatusOr<vmm::Snapshot> snapshot = vmm::Snapshot();
  const bool restore = machine.how == v1::VmStart::RESTORE;
  if (restore) snapshot = vmm::TakeSnapshotFds(&*named);
  const bool complete = kernel.ok() && boot_image.ok() && engine.ok() && snapshot.ok();
  if (!complete || !named->ExpectNoMore().ok()) return 2;
  if (restore && !Restore(*snapshot, &machine.attached)) return 0;
  while (true) {
    if (const std::optional<int> code = RunOnce(machine); code.has_value()) return *code;
  }
}

std::optional<int> RunOnce(const Machine& machine) {
  const auto& [how, plan, start_fds, attached, until_attached] = machine;
  v1::VmRequest request;
  // A machine that was restored ahead waits without limit.
  auto packet = base::ReceivePacket(
      kSocket, how == v1::VmStart::RESTORE ? absl::InfiniteDuration() : absl::Seconds(30));
  if (!packet.ok() || !request.ParseFromString(packet->data) || !request.has_run()) return 2;
  auto named = vmm::Descriptors::Of(request, std::move(packet->fds));
  if (!named.ok()) return 2;
  const auto bundle_fd = named->Take(vmm::kBundleName);
  if (!bundle_fd.ok() || !named->ExpectNoMore().ok()) return 2;
  const std::string problem = CheckSurroundings(start_fds + 1);
  if (!problem.empty()) {
    End(v1::VmEnd::ENGINE_FAILED, problem, v1::STAGE_UNSPECIFIED);
    return 0;
  }
  Say(absl::StrCat("fake vm pid ", getpid()));
  if (lseek(bundle_fd->get(), 0, SEEK_SET) != 0) return 2;
  const auto bundle = base::ReadFd(bundle_fd->get(), "bundle", 16 << 20);
  if (!bundle.ok()) return 2;
  const std::string mode = ModeOf(*bundle);
  const bool with_scheduler = bundle->find("bin/scx_fake") != std::string::npos;
  if (attached && bundle->find(kFileMark) != std::string::npos) {
    End(v1::VmEnd::ENGINE_FAILED, "files for an attached guest", v1::STAGE_UNSPECIFIED);
    return 0;
  }
  if (how == v1::VmStart::SNAPSHOT && mode == "nosnapshot") {
    SayNoSnapshot("this machine cannot be frozen");
    return 0;
  }
  if (how == v1::VmStart::SNAPSHOT) HandSnapshotOver(plan, /*attached=*/false);
  if (until_attached) {
    Attach(mode, plan);
    return 0;
  }
  v1::VmEvent console;  // Sent in any case: the daemon drops it when the run does not want it.
  console.mutable_console()->set_text("[    0.1] fake kernel\n");
  Send(console);
  if (mode == "falls" && attached) {
    Fall();
    return 0;
  }
  if (mode == "pass" || mode == "nosnapshot" || mode == "noattach" || mode == "slowattach" ||
      mode == "hostfails" || mode == "falls") {
    Pass(with_scheduler);
  }
  if (mode == "rewinds" || mode == "sticks") {
    const bool rewinds = how == v1::VmStart::RESTORE && request.run().rewind();
    Pass(with_scheduler, "100us", rewinds);
    if (rewinds && mode == "rewinds") return std::nullopt;
  }
  if (mode == "unbounded") Pass(with_scheduler, std::string(scenario::kUnboundedTurns));
  if (mode == "hang" || mode == "deaf") {
    BeginRun(false);
    AwaitStop(mode == "deaf");
  }
  if (mode == "die") {
    BeginRun(false);
    kill(getpid(), SIGKILL);
  }
  if (mode == "leave") BeginRun(false);
  if (mode == "panic") {
    BeginRun(false);
    End(v1::VmEnd::PANIC, "", v1::STEPS_RUNNING);
  }
  if (mode == "garbage" && !base::SendPacket(kSocket, "\xff\xff\xff").ok()) return 3;
  v1::Observation output;
  output.mutable_scheduler_output()->set_data(std::string(32 << 10, 'x'));
  while (mode == "flood") Observe(output);
  return 0;
}

}  // namespace
}  // namespace ktstr::daemon

int main() { return ktstr::daemon::Run(); }
