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

// Order of VmStart's descriptors.
enum StartFd { kKernel, kBootImage, kBundle, kProgram, kStartFds };

class Process {
 public:
  explicit Process(base::UniqueFd control) : control_(std::move(control)) {}

  // An error is the control socket's: the daemon is gone.
  absl::Status Run();

 private:
  struct Launched {
    std::unique_ptr<Machine> machine;
    Window window;
    absl::Duration started;
  };

  absl::StatusOr<Launched> Launch(const v1::VmStart& start, const std::vector<base::UniqueFd>& fds);
  absl::Status Follow(const v1::VmStart& start, Launched launched);
  absl::Status HandleControl(Session* session);
  absl::Status SendObservation(v1::Observation observation);
  absl::Status SendEnd(v1::VmEnd end);
  void SendProgress(std::string text);

  base::UniqueFd control_;
  std::string engine_version_;  // Known as soon as the engine was asked.
};

absl::Status Process::SendObservation(v1::Observation observation) {
  v1::VmEvent event;
  *event.mutable_observation() = std::move(observation);
  return base::SendPacket(control_.get(), event.SerializeAsString());
}

absl::Status Process::SendEnd(v1::VmEnd end) {
  v1::Observation observation;
  *observation.mutable_vm_end() = std::move(end);
  return SendObservation(std::move(observation));
}

// A lost line is no loss: the next observation finds out that the daemon is gone.
void Process::SendProgress(std::string text) {
  v1::VmEvent event;
  event.mutable_progress()->set_text(std::move(text));
  absl::Status sent = base::SendPacket(control_.get(), event.SerializeAsString());
  if (!sent.ok()) KTSTR_LOG(WARNING) << "progress: " << sent;
}

absl::StatusOr<uint64_t> SizeOf(const base::UniqueFd& fd, std::string_view what) {
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return base::ErrnoStatus(errno, what);
  return static_cast<uint64_t>(info.st_size);
}

absl::Status Process::Run() {
  KTSTR_ASSIGN_OR_RETURN(base::Packet packet, base::ReceivePacket(control_.get(), kStartTimeout));
  v1::VmRequest request;
  absl::StatusOr<Launched> launched =
      absl::InvalidArgumentError("ktstr-vm: the first message is no VmStart");
  if (request.ParseFromString(packet.data) && request.has_start()) {
    launched = Launch(request.start(), packet.fds);
  }
  packet.fds.clear();
  if (launched.ok()) return Follow(request.start(), *std::move(launched));
  v1::VmEnd end;
  end.set_cause(v1::VmEnd::ENGINE_FAILED);
  end.set_detail(base::SanitizeUtf8(std::string(launched.status().message())));
  end.set_engine_version(engine_version_);
  return SendEnd(std::move(end));
}

absl::StatusOr<Process::Launched> Process::Launch(const v1::VmStart& start,
                                                  const std::vector<base::UniqueFd>& fds) {
  if (start.engine() != v1::TCG) {
    return absl::UnimplementedError(
        absl::StrCat("engine ", v1::Engine_Name(start.engine()),
                     ": this version runs software emulation only; use --engine tcg"));
  }
  if (fds.size() != kStartFds) {
    return absl::InvalidArgumentError(absl::StrCat("ktstr-vm: VmStart came with ", fds.size(),
                                                   " descriptors instead of ",
                                                   static_cast<int>(kStartFds)));
  }
  KTSTR_ASSIGN_OR_RETURN(scenario::Topology topology,
                         scenario::Topology::FromProto(start.topology()));
  LaunchRequest request{topology};
  request.memory_mb = start.memory_mb();
  KTSTR_ASSIGN_OR_RETURN(request.kernel_bytes, SizeOf(fds[kKernel], "kernel"));
  KTSTR_ASSIGN_OR_RETURN(request.boot_image_bytes, SizeOf(fds[kBootImage], "boot image"));
  KTSTR_ASSIGN_OR_RETURN(request.bundle_bytes, SizeOf(fds[kBundle], "bundle"));
  KTSTR_ASSIGN_OR_RETURN(LaunchPlan plan, MakeLaunchPlan(request));
  if (const uint64_t mib = plan.memory_bytes() >> 20; mib > start.memory_mb()) {
    SendProgress(absl::StrCat("guest memory raised from ", start.memory_mb(), " to ", mib,
                              " MiB: kernel, boot image and bundle need it"));
  }
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<GuestMemory> memory,
                         GuestMemory::Create(plan.node_memory));
  KTSTR_ASSIGN_OR_RETURN(absl::Span<uint8_t> bytes,
                         memory->At(plan.window_address, plan.window_size));
  KTSTR_ASSIGN_OR_RETURN(Window window, Window::Create(bytes, request.bundle_bytes));
  KTSTR_RETURN_IF_ERROR(window.WriteBundle(fds[kBundle].get()));

  const qemu::BootFiles files = {fds[kKernel].get(), fds[kBootImage].get(), fds[kProgram].get(),
                                 start.engine_path()};
  KTSTR_ASSIGN_OR_RETURN(qemu::Version version, qemu::QueryVersion(files));
  engine_version_ = version.text;
  SendProgress(absl::StrCat("booting ", topology.Label(), " (", topology.num_cpus(), " CPUs, ",
                            plan.memory_bytes() >> 20, " MiB) with ", version.text));
  const absl::Duration started = base::RealClock()->Monotonic();
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<Machine> machine,
                         qemu::Boot(plan, files, version, std::move(memory)));
  return Launched{std::move(machine), std::move(window), started};
}

absl::Status Process::HandleControl(Session* session) {
  KTSTR_ASSIGN_OR_RETURN(base::Packet packet,
                         base::ReceivePacket(control_.get(), absl::ZeroDuration()));
  v1::VmRequest request;
  if (request.ParseFromString(packet.data) && request.has_stop()) {
    session->Cancel(request.stop().reason());
  } else {
    session->Cancel("the daemon sent something other than VmStop");
  }
  return absl::OkStatus();
}

absl::Status Process::Follow(const v1::VmStart& start, Launched launched) {
  Session::Options options;
  options.timeout = absl::Milliseconds(start.timeout_ms());
  options.take_digest = start.take_digest();
  options.observe = [this](v1::Observation o) { return SendObservation(std::move(o)); };
  options.progress = [this](std::string text) { SendProgress(std::move(text)); };
  Session session(launched.machine.get(), std::move(launched.window), launched.started,
                  std::move(options));
  std::vector<pollfd> waits = {{control_.get(), POLLIN, 0}};
  for (int fd : launched.machine->PollFds()) waits.push_back({fd, POLLIN, 0});
  while (true) {
    KTSTR_ASSIGN_OR_RETURN(bool ended, session.Step());
    if (ended) return SendEnd(session.end());
    if (poll(waits.data(), waits.size(), kRingPeriodMs) < 0 && errno != EINTR) {
      return base::ErrnoStatus(errno, "poll");
    }
    if (waits[0].revents != 0) KTSTR_RETURN_IF_ERROR(HandleControl(&session));
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
