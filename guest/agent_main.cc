// SPDX-License-Identifier: Apache-2.0
//
// ktstr-agent: PID 1 of the guest. It mounts file systems, opens the channel, reports READY, runs
// the plan of the bundle, reports DONE and powers the machine off. It never exits: the kernel would
// panic, and the scheduler would get the blame.
#include <sched.h>
#include <signal.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "guest/bundle.h"
#include "guest/channel.h"
#include "guest/console.h"
#include "guest/mounts.h"
#include "guest/plan_runner.h"
#include "guest/quiet.h"
#include "guest/random.h"
#include "guest/random_pool.h"
#include "guest/window.h"

namespace ktstr::guest {
namespace {

constexpr const char* kBundleRoot = "/run/ktstr/bundle";
constexpr int kAgentPriority = 10;
constexpr int kExitUsage = 64;

// The window's doorbell word, once the window is mapped. It stays mapped until the machine is off.
std::atomic<uint32_t*> doorbell_word = nullptr;

// Async-signal-safe.
void MarkThatTheAgentGivesUp() {
  uint32_t* word = doorbell_word.load();
  if (word != nullptr) std::atomic_ref<uint32_t>(*word).store(window::kDoorbellGaveUp);
}

[[noreturn]] void PowerOff() {
  reboot(RB_POWER_OFF);
  while (true) pause();  // A machine that cannot power off waits for its host.
}

// Only async-signal-safe calls. The host sees a power-off before DONE, and this line as its reason.
void OnFatalSignal(int signal) {
  char text[] = "error: the agent itself crashed by signal 00";
  text[sizeof(text) - 3] = static_cast<char>('0' + signal / 10);
  text[sizeof(text) - 2] = static_cast<char>('0' + signal % 10);
  ConsoleLine(text);
  MarkThatTheAgentGivesUp();
  PowerOff();
}

void HandleSignals() {
  struct sigaction action {};
  action.sa_handler = OnFatalSignal;
  for (int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

// The agent must run when the scheduler under test runs nothing: real-time tasks are out of
// sched_ext's reach. Its children start as ordinary tasks.
absl::Status BecomeRealTime() {
  sched_param param{};
  param.sched_priority = kAgentPriority;
  if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) != 0) {
    return base::ErrnoStatus(errno, "SCHED_FIFO for the agent");
  }
  return absl::OkStatus();
}

absl::Status ReportGuestInfo(const std::string& cmdline, Reporter* reporter) {
  utsname name{};
  if (uname(&name) != 0) return base::ErrnoStatus(errno, "uname");
  v1::Observation observation;
  v1::GuestInfo* info = observation.mutable_guest_info();
  info->set_kernel_release(base::SanitizeUtf8(name.release));
  info->set_kernel_version(base::SanitizeUtf8(name.version));
  info->set_kernel_cmdline(
      base::SanitizeUtf8(std::string_view(cmdline).substr(0, cmdline.find('\n'))));
  info->set_online_cpus(static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN)));
  info->set_has_sched_ext(base::Exists("/sys/kernel/sched_ext"));
  reporter->Report(std::move(observation));
  return absl::OkStatus();
}

// Stands still with the scheduler enabled, until the host has put a run's plan into the window.
absl::StatusOr<v1::GuestPlan> AwaitPlan(const Window& window, Channel* channel) {
  WaitUntilQuiet("/proc/stat");
  KTSTR_RETURN_IF_ERROR(channel->Doorbell(window::kDoorbellAttached));
  KTSTR_ASSIGN_OR_RETURN(const std::string_view archive, window.Bundle());
  KTSTR_ASSIGN_OR_RETURN(v1::GuestPlan plan, ReadPlan(archive));
  KTSTR_RETURN_IF_ERROR(SeedRandomPool("/dev/random", Random(plan), 0));
  return plan;
}

absl::Status RunBundle(const Window& window, Channel* channel) {
  KTSTR_ASSIGN_OR_RETURN(const std::string_view archive, window.Bundle());
  KTSTR_ASSIGN_OR_RETURN(const v1::GuestPlan plan,
                         LoadBundle(archive, kBundleRoot, /*system_root=*/""));
  channel->ReportStage(v1::BUNDLE_UNPACKED);
  KTSTR_RETURN_IF_ERROR(SeedRandomPool("/dev/random", Random(plan), 0));
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<PlanRunner> runner,
                         PlanRunner::Make(plan, RunnerPaths{}, channel, [&window, channel] {
                           return AwaitPlan(window, channel);
                         }));
  runner->Run();
  return absl::OkStatus();
}

absl::Status GetReady(const std::string& cmdline, bool stop, Channel* channel) {
  KTSTR_RETURN_IF_ERROR(BecomeRealTime());
  KTSTR_RETURN_IF_ERROR(ReportGuestInfo(cmdline, channel));
  channel->ReportStage(v1::READY);
  if (!stop) return absl::OkStatus();
  WaitUntilQuiet("/proc/stat");
  return channel->Doorbell(window::kDoorbellReady);
}

absl::Status Serve() {
  KTSTR_RETURN_IF_ERROR(MountAll());
  AttachConsole();
  ConsoleLine("stage INIT_STARTED");
  KTSTR_ASSIGN_OR_RETURN(const std::string cmdline, base::ReadFile("/proc/cmdline"));
  KTSTR_ASSIGN_OR_RETURN(const WindowRange range, ParseWindowRange(cmdline));
  KTSTR_ASSIGN_OR_RETURN(Window mapped, Window::Map("/dev/mem", range));
  // Never unmapped: OnFatalSignal() may still write to it.
  Window& window = *new Window(std::move(mapped));
  doorbell_word.store(&window.header().doorbell);
  Channel channel(&window, RealPorts());
  channel.ReportStage(v1::WINDOW_MAPPED);
  absl::Status status = GetReady(cmdline, window.stop_at_ready(), &channel);
  if (status.ok()) status = RunBundle(window, &channel);
  if (!status.ok()) channel.ReportError(std::string(status.message()));
  v1::Observation stats;
  stats.mutable_channel_stats()->set_frames(channel.frames());
  stats.mutable_channel_stats()->set_full_waits(channel.full_waits());
  channel.Report(std::move(stats));
  channel.ReportStage(v1::DONE);
  // The host takes the digest and ends the machine, so it does not answer.
  KTSTR_RETURN_IF_ERROR(channel.Bell(window::kDoorbellDone).status());
  // A stop ends at a definite instruction of this CPU, and at any of the others.
  TakeOthersOffline("/sys/devices/system/cpu");
  WaitUntilQuiet("/proc/stat");
  return channel.Doorbell(window::kDoorbellDone);
}

}  // namespace
}  // namespace ktstr::guest

int main() {
  if (getpid() != 1) {
    fputs(
        "ktstr-agent is the init process of a ktstr guest: ktstr-vm boots it, do not run it "
        "yourself\n",
        stderr);
    return ktstr::guest::kExitUsage;
  }
  ktstr::guest::HandleSignals();
  absl::Status status = ktstr::guest::Serve();
  if (!status.ok()) {
    ktstr::guest::AttachConsole();
    ktstr::guest::ConsoleLine(absl::StrCat("error: ", status.message()));
    ktstr::guest::MarkThatTheAgentGivesUp();
  }
  ktstr::guest::PowerOff();
}
