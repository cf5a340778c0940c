// SPDX-License-Identifier: Apache-2.0
#include "daemon/vm_child.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/seqpacket.h"
#include "base/status_macros.h"
#include "base/subprocess.h"

namespace ktstr::daemon {
namespace {

constexpr absl::Duration kExitPatience = absl::Seconds(5);

v1::Observation MakeEnd(v1::VmEnd::Cause cause, std::string detail) {
  v1::Observation observation;
  observation.mutable_vm_end()->set_cause(cause);
  observation.mutable_vm_end()->set_detail(std::move(detail));
  return observation;
}

// The execution of one VM. One thread.
class VmCourse {
 public:
  VmCourse(const VmLaunch& launch, const RunReporter& reporter, const VmListener& listener,
           std::optional<VmProcess> prepared)
      : launch_(launch),
        reporter_(reporter),
        listener_(listener),
        prepared_(prepared.has_value()),
        process_(std::move(prepared)) {}

  VmResult Run();

 private:
  absl::Status Start();
  void Loop();
  void HandleStop();
  void HandlePacket();
  void HandleEvent(base::Packet packet);
  absl::StatusOr<vmm::Snapshot> ReadSnapshot(const v1::VmEvent& event,
                                             std::vector<base::UniqueFd> fds);
  void Lost();
  void End(v1::Observation end) { end_ = std::move(end); }
  // The end of a stopped run is the stop, whatever the process reports, unless the run was done.
  void ApplyStopReason();
  int socket() const { return process_->socket.get(); }
  absl::Duration Now() const { return base::RealClock()->Monotonic(); }

  const VmLaunch& launch_;
  const RunReporter& reporter_;
  const VmListener& listener_;
  const bool prepared_;  // Somebody else started the process.
  std::optional<VmProcess> process_;
  absl::Duration deadline_;
  std::optional<StopRequest> stop_;
  uint64_t bytes_ = 0;
  std::vector<v1::Observation> observations_;
  std::optional<v1::Observation> end_;
  std::optional<std::string> no_snapshot_;
  bool not_attached_ = false;
  bool may_pass_ = false;
  bool attached_ = false;  // The attached snapshot has come.
  bool said_end_ = false;  // The process has reported its end, so it is about to exit.
  bool rewinds_ = false;   // … or to take another run.
};

absl::Status VmCourse::Start() {
  if (!process_.has_value()) {
    KTSTR_ASSIGN_OR_RETURN(VmProcess started, StartVm(launch_.program, launch_.start, launch_.fds));
    process_.emplace(std::move(started));
  }
  v1::VmRequest run;
  *run.mutable_run() = launch_.run;
  return vmm::SendMessage(socket(), std::move(run), {{vmm::kBundleName, launch_.bundle}});
}

void VmCourse::HandleStop() {
  stop_ = reporter_.stop();
  v1::VmRequest request;
  request.mutable_stop()->set_reason(stop_->reason);
  // When the process is gone already, the end of the stream shows it.
  if (absl::Status sent = vmm::SendMessage(socket(), std::move(request)); !sent.ok()) {
    KTSTR_LOG(INFO) << launch_.run.run_id() << ": VmStop: " << sent;
  }
  deadline_ = std::min(deadline_, Now() + (stop_->interrupted ? launch_.interrupt_patience
                                                              : launch_.cancel_patience));
}

void VmCourse::Lost() {
  if (prepared_ && observations_.empty()) {
    no_snapshot_ = "the machine that was restored ahead is gone";
    return;
  }
  const std::optional<base::ExitStatus> exit = process_->child.Wait(kExitPatience);
  if (exit.has_value() && exit->signal != 0) {
    End(MakeEnd(v1::VmEnd::INTERRUPTED,
                absl::StrCat("the VM process was lost: ", exit->ToString())));
  } else {
    End(MakeEnd(v1::VmEnd::ENGINE_FAILED,
                absl::StrCat("the VM process ended without a report: ",
                             exit.has_value() ? exit->ToString() : "it closed its socket")));
  }
}

void VmCourse::HandleEvent(base::Packet packet) {
  v1::VmEvent event;
  if (!event.ParseFromString(packet.data) || event.event_case() == v1::VmEvent::EVENT_NOT_SET) {
    End(MakeEnd(v1::VmEnd::ENGINE_FAILED, "the VM process sent an invalid VmEvent"));
    return;
  }
  if (event.has_prepared()) return;
  bytes_ += packet.data.size();
  if (bytes_ > launch_.max_bytes || observations_.size() >= launch_.max_observations) {
    End(MakeEnd(v1::VmEnd::GUEST_MISBEHAVED,
                absl::StrCat("flood: more than ", launch_.max_observations, " observations or ",
                             launch_.max_bytes >> 20, " MiB")));
    return;
  }
  if (event.has_progress()) {
    listener_.progress(event.progress());
    return;
  }
  if (event.has_console()) {
    if (launch_.start.send_console() && listener_.console)
      listener_.console(event.console().text());
    return;
  }
  if (event.has_snapshot()) {
    absl::StatusOr<vmm::Snapshot> snapshot = ReadSnapshot(event, std::move(packet.fds));
    if (snapshot.ok()) {
      listener_.snapshot(*std::move(snapshot), event.snapshot().attached());
      attached_ = event.snapshot().attached();
      said_end_ = attached_;
    } else {
      End(MakeEnd(
          v1::VmEnd::ENGINE_FAILED,
          absl::StrCat("the VM process sent an invalid snapshot: ", snapshot.status().message())));
    }
    return;
  }
  if (event.has_no_snapshot()) {
    said_end_ = true;
    no_snapshot_ = std::move(*event.mutable_no_snapshot()->mutable_reason());
    not_attached_ = event.no_snapshot().not_attached();
    may_pass_ = event.no_snapshot().may_pass();
    return;
  }
  if (event.observation().has_vm_end()) {
    said_end_ = true;
    rewinds_ = launch_.run.rewind() && event.rewinds() && !stop_.has_value();
    End(std::move(*event.mutable_observation()));
    return;
  }
  observations_.push_back(std::move(*event.mutable_observation()));
  listener_.observation(observations_.back());
}

absl::StatusOr<vmm::Snapshot> VmCourse::ReadSnapshot(const v1::VmEvent& event,
                                                     std::vector<base::UniqueFd> fds) {
  if (!listener_.snapshot || (event.snapshot().attached() && !launch_.start.until_attached())) {
    return absl::FailedPreconditionError("this run takes none");
  }
  KTSTR_ASSIGN_OR_RETURN(vmm::Descriptors named, vmm::Descriptors::Of(event, std::move(fds)));
  KTSTR_ASSIGN_OR_RETURN(vmm::Snapshot snapshot, vmm::TakeSnapshotFds(&named));
  KTSTR_RETURN_IF_ERROR(named.ExpectNoMore());
  KTSTR_RETURN_IF_ERROR(vmm::CheckSnapshot(snapshot, launch_.start.plan()));
  return snapshot;
}

void VmCourse::HandlePacket() {
  absl::StatusOr<base::Packet> packet = base::ReceivePacket(socket(), absl::ZeroDuration());
  if (packet.ok()) {
    HandleEvent(*std::move(packet));
  } else if (absl::IsInvalidArgument(packet.status())) {
    End(MakeEnd(v1::VmEnd::ENGINE_FAILED,
                absl::StrCat("the VM process broke the protocol: ", packet.status().message())));
  } else if (!absl::IsDeadlineExceeded(packet.status())) {
    Lost();
  }
}

void VmCourse::Loop() {
  while (!end_.has_value() && !no_snapshot_.has_value() && !attached_) {
    const absl::Duration left = deadline_ - Now();
    if (left <= absl::ZeroDuration()) {
      End(MakeEnd(v1::VmEnd::ENGINE_FAILED,
                  absl::StrCat("the VM process did not end by itself within ",
                               launch_.run.timeout_ms(), " ms and was killed")));
      return;
    }
    pollfd waits[] = {{socket(), POLLIN, 0},
                      {stop_.has_value() ? -1 : reporter_.stop_fd(), POLLIN, 0}};
    const int64_t ms = std::min<int64_t>(absl::ToInt64Milliseconds(left) + 1, 60'000);
    if (poll(waits, 2, static_cast<int>(ms)) < 0 && errno != EINTR) {
      End(MakeEnd(v1::VmEnd::ENGINE_FAILED,
                  std::string(base::ErrnoStatus(errno, "poll").message())));
      return;
    }
    if (waits[1].revents != 0) HandleStop();
    if (waits[0].revents != 0) HandlePacket();
  }
}

void VmCourse::ApplyStopReason() {
  v1::VmEnd* end = end_->mutable_vm_end();
  if (!stop_.has_value() || end->cause() == v1::VmEnd::DONE) return;
  MarkStopped(*stop_, end);
}

VmResult VmCourse::Run() {
  deadline_ = Now() + absl::Milliseconds(launch_.run.timeout_ms()) + launch_.timeout_patience;
  absl::Status started = Start();
  if (started.ok() || (process_.has_value() && absl::IsUnavailable(started))) {
    Loop();  // Also reads what a process sent before it ended.
  } else {
    End(MakeEnd(v1::VmEnd::ENGINE_FAILED, std::string(started.message())));
  }
  VmResult result;
  if (rewinds_) {
    result.rewound.emplace(*std::move(process_));
    process_.reset();
  }
  if (process_.has_value()) process_->socket.Reset();
  if (process_.has_value() &&
      !process_->child.Wait(said_end_ ? kExitPatience : absl::ZeroDuration()).has_value()) {
    process_->child.Kill(SIGKILL);
    process_->child.Wait(absl::InfiniteDuration());
  }
  if (no_snapshot_.has_value()) {
    return {.no_snapshot = std::move(no_snapshot_),
            .not_attached = not_attached_,
            .may_pass = may_pass_};
  }
  if (attached_ && !end_.has_value()) return {};
  ApplyStopReason();
  observations_.push_back(*std::move(end_));
  result.observations = std::move(observations_);
  return result;
}

}  // namespace

void MarkStopped(const StopRequest& why, v1::VmEnd* end) {
  end->set_cause(why.interrupted ? v1::VmEnd::INTERRUPTED : v1::VmEnd::CANCELLED);
  end->set_detail(why.reason);
}

v1::Observation StopObservation(const StopRequest& why) {
  v1::Observation observation;
  MarkStopped(why, observation.mutable_vm_end());
  return observation;
}

absl::StatusOr<VmProcess> StartVm(const std::string& program, const v1::VmStart& start,
                                  const std::vector<vmm::NamedFd>& fds) {
  KTSTR_ASSIGN_OR_RETURN(auto pair, base::MakeSeqpacketPair());
  base::SpawnOptions spawn;
  spawn.argv = {program};
  spawn.env = std::vector<std::string>();
  spawn.fds = {{2, 2}, {3, pair.second.get()}};
  spawn.new_session = true;
  spawn.rlimits = {{RLIMIT_CORE, 0}};
  KTSTR_ASSIGN_OR_RETURN(base::Child child, base::Spawn(spawn));
  VmProcess process{std::move(child), std::move(pair.first)};
  v1::VmRequest request;
  *request.mutable_start() = start;
  KTSTR_RETURN_IF_ERROR(vmm::SendMessage(process.socket.get(), std::move(request), fds));
  return process;
}

VmResult RunVm(const VmLaunch& launch, const RunReporter& reporter, const VmListener& listener,
               std::optional<VmProcess> prepared) {
  return VmCourse(launch, reporter, listener, std::move(prepared)).Run();
}

}  // namespace ktstr::daemon
