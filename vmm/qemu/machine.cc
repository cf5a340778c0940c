// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/machine.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/subprocess.h"
#include "base/utf8.h"
#include "vmm/qemu/qmp.h"

namespace ktstr::vmm::qemu {
namespace {

// QEMU starts in 0.1 to 0.5 s on an idle host; a loaded host gets a lot more.
constexpr absl::Duration kStartTimeout = absl::Seconds(60);
constexpr size_t kMaxEngineOutput = 8 << 10;

std::string ProgramPath() { return absl::StrCat("/proc/self/fd/", kProgramFd); }

// What QEMU printed, with its name instead of our descriptor's.
std::string EngineText(const Console& output, const std::string& program_path) {
  absl::StatusOr<std::string> raw = output.Text();
  if (!raw.ok()) return {};
  if (raw->size() > kMaxEngineOutput) raw->erase(0, raw->size() - kMaxEngineOutput);
  std::string text = absl::StrReplaceAll(
      base::PrintableTail(*raw, 50), {{ProgramPath(), base::ToAbsl(base::Basename(program_path))}});
  return std::string(absl::StripAsciiWhitespace(text));
}

class QemuMachine : public Machine {
 public:
  QemuMachine(base::Child child, QmpClient qmp, Console console, Console output,
              std::string program_path, std::string version, std::unique_ptr<GuestMemory> memory)
      : memory_(std::move(memory)),
        console_(std::move(console)),
        output_(std::move(output)),
        program_path_(std::move(program_path)),
        version_(std::move(version)),
        qmp_(std::move(qmp)),
        child_(std::move(child)) {}

  // Greeting, capabilities, cont.
  absl::Status Start();

  std::vector<int> PollFds() const override { return {qmp_.fd(), child_.pidfd()}; }
  absl::StatusOr<std::optional<MachineEvent>> NextEvent() override;
  absl::Status Resume() override { return qmp_.Send("cont"); }
  void Stop(absl::Duration patience) override;
  GuestMemory& Memory() override { return *memory_; }
  const Console& GuestConsole() const override { return console_; }
  std::string EngineOutput() override { return EngineText(output_, program_path_); }
  const std::string& EngineVersion() const override { return version_; }

 private:
  absl::Status AwaitReturn(std::string_view what);

  std::unique_ptr<GuestMemory> memory_;
  Console console_;
  Console output_;  // Of QEMU itself.
  std::string program_path_;
  std::string version_;
  QmpClient qmp_;
  base::Child child_;
  bool ended_ = false;     // kEnded was reported, or Stop() was called.
  bool shutdown_ = false;  // kShutdown was reported.
};

absl::Status QemuMachine::AwaitReturn(std::string_view what) {
  while (true) {
    KTSTR_ASSIGN_OR_RETURN(QmpMessage message, qmp_.Await(kStartTimeout));
    if (message.kind == QmpMessage::Kind::kReturn) return absl::OkStatus();
    if (message.kind == QmpMessage::Kind::kError) {
      return absl::InternalError(absl::StrCat("QMP ", base::ToAbsl(what), ": ", message.text));
    }
  }
}

absl::Status QemuMachine::Start() {
  KTSTR_ASSIGN_OR_RETURN(QmpMessage greeting, qmp_.Await(kStartTimeout));
  if (greeting.kind != QmpMessage::Kind::kGreeting) {
    return absl::InternalError("QMP: no greeting");
  }
  KTSTR_RETURN_IF_ERROR(qmp_.Send("qmp_capabilities"));
  KTSTR_RETURN_IF_ERROR(AwaitReturn("qmp_capabilities"));
  return qmp_.Send("cont");
}

absl::StatusOr<std::optional<MachineEvent>> QemuMachine::NextEvent() {
  while (!ended_) {
    absl::StatusOr<std::optional<QmpMessage>> next = qmp_.Next();
    if (absl::IsOutOfRange(next.status())) break;
    if (!next.ok()) return next.status();
    if (!next->has_value()) break;
    const QmpMessage& message = **next;
    if (message.kind == QmpMessage::Kind::kError) {
      return absl::InternalError(absl::StrCat("QMP: ", message.text));
    }
    if (message.kind != QmpMessage::Kind::kEvent) continue;
    // STOP comes when the vCPUs do stand still; GUEST_PANICKED before it.
    if (message.text == "STOP") {
      return std::optional<MachineEvent>({MachineEvent::Kind::kStopped, {}});
    }
    if (message.text == "SHUTDOWN" && !shutdown_) {
      shutdown_ = true;
      return std::optional<MachineEvent>({MachineEvent::Kind::kShutdown, message.text});
    }
  }
  if (ended_) return std::optional<MachineEvent>();
  std::optional<base::ExitStatus> status = child_.Wait(absl::ZeroDuration());
  if (!status.has_value()) return std::optional<MachineEvent>();
  ended_ = true;
  return std::optional<MachineEvent>({MachineEvent::Kind::kEnded, status->ToString()});
}

void QemuMachine::Stop(absl::Duration patience) {
  ended_ = true;
  if (!qmp_.Send("quit").ok()) patience = absl::ZeroDuration();
  if (child_.Wait(patience).has_value()) return;
  child_.Kill(SIGKILL);
  child_.Wait(absl::InfiniteDuration());
}

// `-version` through the descriptor, as the real start.
base::SpawnOptions ProgramOptions(const BootFiles& files) {
  base::SpawnOptions options;
  options.argv = {ProgramPath()};
  options.fds = {{kProgramFd, files.program}};
  return options;
}

}  // namespace

absl::StatusOr<Version> QueryVersion(const BootFiles& files) {
  base::SpawnOptions options = ProgramOptions(files);
  options.argv.push_back("-version");
  absl::StatusOr<base::RunResult> result =
      base::RunCommand(std::move(options), kStartTimeout, {}, kMaxEngineOutput);
  if (!result.ok()) {
    return absl::Status(result.status().code(),
                        absl::StrCat("engine program ", files.program_path,
                                     " cannot be executed: ", result.status().message()));
  }
  if (!result->status.Success()) {
    return absl::FailedPreconditionError(absl::StrCat("engine program ", files.program_path,
                                                      " -version ", result->status.ToString(), ": ",
                                                      base::PrintableTail(result->err, 5)));
  }
  absl::StatusOr<Version> version = ParseVersion(result->out);
  return version.ok() ? version
                      : base::Annotate(version.status(),
                                       absl::StrCat("engine program ", files.program_path));
}

absl::StatusOr<std::unique_ptr<Machine>> Boot(const LaunchPlan& plan, const BootFiles& files,
                                              const Version& version,
                                              std::unique_ptr<GuestMemory> memory) {
  KTSTR_ASSIGN_OR_RETURN(Console console, Console::Create());
  KTSTR_ASSIGN_OR_RETURN(Console output, Console::Create());
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return base::ErrnoStatus(errno, "QMP socket pair");
  }
  base::UniqueFd ours(pair[0]);
  base::UniqueFd theirs(pair[1]);
  KTSTR_ASSIGN_OR_RETURN(QmpClient qmp, QmpClient::Create(std::move(ours)));

  base::SpawnOptions options = ProgramOptions(files);
  for (std::string& argument : MakeArguments(plan, version)) {
    options.argv.push_back(std::move(argument));
  }
  options.fds.insert(options.fds.end(), {{1, output.fd()},
                                         {2, output.fd()},
                                         {kQmpFd, theirs.get()},
                                         {kKernelFd, files.kernel},
                                         {kBootImageFd, files.boot_image},
                                         {kConsoleFd, console.fd()}});
  int memory_fd = kFirstMemoryFd;
  for (const GuestMemory::Segment& segment : memory->segments()) {
    options.fds.emplace_back(memory_fd++, segment.memfd.get());
  }
  options.rlimits[RLIMIT_FSIZE] = Console::kHardLimit;
  options.rlimits[RLIMIT_CORE] = 0;
  KTSTR_ASSIGN_OR_RETURN(base::Child child, base::Spawn(options));
  theirs.Reset();

  auto machine = std::make_unique<QemuMachine>(std::move(child), std::move(qmp), std::move(console),
                                               std::move(output), files.program_path, version.text,
                                               std::move(memory));
  if (absl::Status started = machine->Start(); !started.ok()) {
    machine->Stop(absl::Seconds(1));
    const std::string said = machine->EngineOutput();
    return absl::Status(started.code(),
                        absl::StrCat(version.text, " did not start: ",
                                     said.empty() ? started.message() : absl::string_view(said)));
  }
  return std::unique_ptr<Machine>(std::move(machine));
}

}  // namespace ktstr::vmm::qemu
