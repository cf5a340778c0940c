// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/machine.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/head_tail.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/subprocess.h"
#include "base/utf8.h"
#include "vmm/private_memory.h"
#include "vmm/qemu/library.h"
#include "vmm/qemu/library/page.h"
#include "vmm/qemu/qmp.h"
#include "vmm/qemu/registers.h"

namespace ktstr::vmm::qemu {
namespace {

// QEMU starts in 0.1 to 0.5 s on an idle host; a loaded host gets a lot more.
constexpr absl::Duration kStartTimeout = absl::Seconds(60);
constexpr absl::Duration kBellPeriod = absl::Milliseconds(50);
constexpr absl::Duration kLookTimeout = absl::Seconds(5);
// How long the vCPUs may take to their next turn; a loaded host gets a lot more than it takes.
constexpr absl::Duration kHaltTimeout = absl::Seconds(2);
constexpr absl::Duration kHaltPeriod = absl::Microseconds(200);  // Nothing tells of it.
constexpr size_t kMaxEngineOutput = 8 << 10;
// From 10.1 on, functions that library/rewind.c calls take other arguments.
constexpr std::pair<int, int> kLastThatRewinds = {10, 0};
// RAM stays in its files, and QEMU sends an event when a migration is done.
constexpr char kCapabilities[] =
    R"({"capabilities":[{"capability":"x-ignore-shared","state":true},)"
    R"({"capability":"events","state":true}]})";

std::string ProgramPath() { return absl::StrCat("/proc/self/fd/", kProgramFd); }

// What QEMU printed, with its name instead of our descriptor's.
std::string EngineText(const Console& output, const std::string& program_path) {
  absl::StatusOr<std::string> raw = output.Text();
  if (!raw.ok()) return {};
  const std::string cut = base::CutMiddleLines(
      base::CutMiddle(*raw, kMaxEngineOutput / 2, kMaxEngineOutput / 2), 25, 25);
  std::string text =
      absl::StrReplaceAll(base::PrintableTail(cut, std::numeric_limits<size_t>::max()),
                          {{ProgramPath(), base::ToAbsl(base::Basename(program_path))}});
  return std::string(absl::StripAsciiWhitespace(text));
}

// The guest's synchronous doorbell (library/threads.c).
struct Bell {
  base::UniqueFd rings;    // A byte for each ring. Closed where the library does not wait.
  base::UniqueFd answers;  // Takes a byte, with which the guest goes on.
};

class QemuMachine : public Machine {
 public:
  QemuMachine(std::shared_ptr<base::Child> child, QmpClient qmp, Console console, Console output,
              base::UniqueFd turns, base::UniqueFd page, Bell bell, std::string program_path,
              const Version& version)
      : bell_(std::move(bell)),
        turns_(std::move(turns)),
        page_(std::move(page)),
        console_(std::move(console)),
        output_(std::move(output)),
        program_path_(std::move(program_path)),
        version_(version.text),
        knows_version_(std::make_pair(version.major, version.minor) <= kLastThatRewinds),
        qmp_(std::move(qmp)),
        child_(std::move(child)) {}

  // QMP's handshake; QEMU has mapped its memory when it is done.
  absl::Status Negotiate();
  // Starts a guest that has never run.
  absl::Status StartBoot(std::unique_ptr<SharedMemory> memory);
  // Loads the device state from a file.
  absl::Status LoadState(int state);
  void SetMemory(std::unique_ptr<GuestMemory> memory) { memory_ = std::move(memory); }
  // The guest's own: it can become a snapshot.
  void SetOwnMemory(std::unique_ptr<SharedMemory> memory) {
    shared_ = memory.get();
    memory_ = std::move(memory);
  }
  std::shared_ptr<const base::Child> process() const { return child_; }
  // " (it was killed by signal 11 …)" of an engine that ended by itself; else empty.
  std::string Ending();

  std::vector<int> PollFds() const override {
    return {qmp_.fd(), child_->pidfd(), bell_.rings.get()};
  }
  absl::StatusOr<std::optional<MachineEvent>> NextEvent() override;
  absl::Status Resume() override;
  absl::StatusOr<Snapshot> TakeSnapshot() override;
  absl::Status Rewind() override;
  bool CanRewind() const override;
  void Stop() override;
  absl::Status SetVcpuTurn(absl::Duration turn) override;
  bool HasBoundedTurns() const override { return bounded_; }
  absl::Status SetRendezvous(absl::Duration guest_time) override;
  std::optional<absl::Duration> GuestTime() const override;
  std::vector<v1::VcpuState> HaltAndLook() override;
  GuestMemory& Memory() override { return *memory_; }
  const Console& GuestConsole() const override { return console_; }
  std::string EngineNote() const override { return note_; }
  std::string EngineOutput() override { return EngineText(output_, program_path_); }
  const std::string& EngineVersion() const override { return version_; }

 private:
  // Unavailable when the guest panics or ends meanwhile.
  absl::Status Execute(std::string_view command, std::string_view arguments = "{}", int fd = -1);
  // A field of struct Page.
  absl::StatusOr<int64_t> ReadPage(size_t offset) const;
  absl::Status WritePage(size_t offset, int64_t value);
  // Whether the guest, or the library, has rung and waits for an answer.
  bool Rang();
  // Hands the file over and starts the migration to or from it (`command`); returns at its end.
  absl::Status Migrate(std::string_view command, int state);

  Bell bell_;
  bool at_bell_ = false;  // The guest waits for an answer.
  std::unique_ptr<GuestMemory> memory_;
  SharedMemory* shared_ = nullptr;  // memory_, unless its pages are a snapshot's.
  base::UniqueFd turns_;            // Has a byte when QEMU has loaded the library (library/).
  base::UniqueFd page_;             // struct Page
  std::string note_;
  bool bounded_ = false;
  Console console_;
  Console output_;  // Of QEMU itself.
  std::string program_path_;
  std::string version_;
  bool knows_version_;  // As library/rewind.c has to.
  QmpClient qmp_;
  std::shared_ptr<base::Child> child_;  // Shared with memory_ of a restored guest.
  bool ended_ = false;                  // kEnded was reported, or Stop() was called.
  bool shutdown_ = false;               // Power-off or reset was reported.
};

absl::Status QemuMachine::Execute(std::string_view command, std::string_view arguments, int fd) {
  KTSTR_RETURN_IF_ERROR(qmp_.Send(command, arguments, fd));
  while (true) {
    KTSTR_ASSIGN_OR_RETURN(QmpMessage message, qmp_.Await(kStartTimeout));
    if (message.kind == QmpMessage::Kind::kReturn && message.id == qmp_.last_id()) {
      return absl::OkStatus();
    }
    if (message.kind == QmpMessage::Kind::kError) {
      return absl::InternalError(absl::StrCat("QMP ", base::ToAbsl(command), ": ", message.text));
    }
    if (message.text == "SHUTDOWN" || message.text == "GUEST_PANICKED") {
      return absl::UnavailableError(
          absl::StrCat("QMP ", base::ToAbsl(command), ": the guest has ended: ", message.text));
    }
  }
}

absl::Status QemuMachine::Negotiate() {
  KTSTR_ASSIGN_OR_RETURN(QmpMessage greeting, qmp_.Await(kStartTimeout));
  if (greeting.kind != QmpMessage::Kind::kGreeting) {
    return absl::InternalError("QMP: no greeting");
  }
  KTSTR_RETURN_IF_ERROR(Execute("qmp_capabilities"));
  char byte;
  if (read(turns_.get(), &byte, 1) != 1) {
    bell_.rings.Reset();
    note_ = absl::StrCat("warning: ", program_path_,
                         " does not load ktstr's library (is it linked statically?): equal runs "
                         "may differ, and turns of the vCPUs are unbounded");
  } else if (byte == 'b') {
    bounded_ = true;
  } else {
    note_ = absl::StrCat("warning: ", program_path_,
                         " does not export what ktstr's library needs: turns of the vCPUs are "
                         "unbounded");
  }
  return absl::OkStatus();
}

absl::Status QemuMachine::StartBoot(std::unique_ptr<SharedMemory> memory) {
  SetOwnMemory(std::move(memory));
  return qmp_.Send("cont");
}

absl::Status QemuMachine::Migrate(std::string_view command, int state) {
  KTSTR_RETURN_IF_ERROR(Execute("getfd", R"({"fdname":"state"})", state));
  KTSTR_RETURN_IF_ERROR(qmp_.Send(command, R"({"uri":"fd:state"})"));
  while (true) {
    KTSTR_ASSIGN_OR_RETURN(QmpMessage message, qmp_.Await(kStartTimeout));
    if (message.kind == QmpMessage::Kind::kError) {
      return absl::InternalError(absl::StrCat("QMP: ", message.text));
    }
    if (message.text != "MIGRATION") continue;
    if (message.status == "completed") return absl::OkStatus();
    if (message.status == "failed" || message.status == "cancelled") {
      KTSTR_RETURN_IF_ERROR(qmp_.Send("query-migrate"));
      while (message.kind != QmpMessage::Kind::kReturn) {
        KTSTR_ASSIGN_OR_RETURN(message, qmp_.Await(kStartTimeout));
      }
      return absl::InternalError(absl::StrCat("QMP: migration failed: ", message.text));
    }
  }
}

absl::Status QemuMachine::LoadState(int state) {
  KTSTR_RETURN_IF_ERROR(Execute("migrate-set-capabilities", kCapabilities));
  // Announcing the guest to a network would arm a timer on the host's clock, which shortens the
  // vCPUs' slices: the guest's execution would depend on the host.
  KTSTR_RETURN_IF_ERROR(Execute("migrate-set-parameters", R"({"announce-rounds":0})"));
  return Migrate("migrate-incoming", state);
}

absl::StatusOr<Snapshot> QemuMachine::TakeSnapshot() {
  if (shared_ == nullptr) {
    return absl::FailedPreconditionError(
        "a machine that shares the pages of a snapshot takes none");
  }
  // A vCPU thread at a rendezvous would keep QEMU from it.
  KTSTR_RETURN_IF_ERROR(SetRendezvous(absl::InfiniteDuration()));
  Snapshot snapshot;
  KTSTR_ASSIGN_OR_RETURN(snapshot.state, base::MakeMemfd("ktstr-guest-state", 0));
  absl::Status saved = Execute("migrate-set-capabilities", kCapabilities);
  if (saved.ok()) saved = Migrate("migrate", snapshot.state.get());
  Stop();  // Its mappings would prevent the seals.
  if (!saved.ok()) {
    return base::Annotate(saved, absl::StrCat("snapshot not taken: ", EngineOutput()));
  }
  snapshot.ram = std::exchange(shared_, nullptr)->Release();
  KTSTR_RETURN_IF_ERROR(base::SealMemfd(snapshot.state.get(), "device state"));
  for (const base::UniqueFd& ram : snapshot.ram) {
    KTSTR_RETURN_IF_ERROR(base::SealMemfd(ram.get(), "RAM"));
  }
  return snapshot;
}

absl::Status QemuMachine::Resume() {
  if (!std::exchange(at_bell_, false)) return qmp_.Send("cont");
  if (write(bell_.answers.get(), "", 1) == 1) return absl::OkStatus();
  return base::ErrnoStatus(errno, "answer to the bell");
}

bool QemuMachine::Rang() {
  char byte;
  if (!at_bell_ && bell_.rings.valid() && read(bell_.rings.get(), &byte, 1) == 1) at_bell_ = true;
  return at_bell_;
}

absl::StatusOr<std::optional<MachineEvent>> QemuMachine::NextEvent() {
  if (!ended_ && !at_bell_ && Rang()) {
    KTSTR_ASSIGN_OR_RETURN(const int64_t rendezvous, ReadPage(offsetof(Page, at_rendezvous)));
    return std::optional<MachineEvent>(
        {rendezvous != 0 ? MachineEvent::Kind::kRendezvous : MachineEvent::Kind::kRang, {}});
  }
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
    // STOP comes when the vCPUs stand still; GUEST_PANICKED comes earlier.
    if (message.text == "STOP") {
      return std::optional<MachineEvent>({MachineEvent::Kind::kStopped, {}});
    }
    if (message.text == "SHUTDOWN" && !shutdown_) {
      shutdown_ = true;
      if (message.reason == "guest-reset") {
        return std::optional<MachineEvent>({MachineEvent::Kind::kReset, {}});
      }
      if (message.reason == "guest-shutdown") {
        return std::optional<MachineEvent>({MachineEvent::Kind::kPoweredOff, {}});
      }
      return absl::UnavailableError(absl::StrCat("it was shut down: ", message.reason));
    }
  }
  if (ended_) return std::optional<MachineEvent>();
  std::optional<base::ExitStatus> status = child_->Wait(absl::ZeroDuration());
  if (!status.has_value()) return std::optional<MachineEvent>();
  ended_ = true;
  return std::optional<MachineEvent>({MachineEvent::Kind::kEnded, status->ToString()});
}

absl::StatusOr<int64_t> QemuMachine::ReadPage(size_t offset) const {
  int64_t value = 0;
  if (pread(page_.get(), &value, sizeof(value), static_cast<off_t>(offset)) == sizeof(value)) {
    return value;
  }
  return base::ErrnoStatus(errno, "page of QEMU's library");
}

absl::Status QemuMachine::WritePage(size_t offset, int64_t value) {
  if (pwrite(page_.get(), &value, sizeof(value), static_cast<off_t>(offset)) == sizeof(value)) {
    return absl::OkStatus();
  }
  return base::ErrnoStatus(errno, "page of QEMU's library");
}

std::optional<absl::Duration> QemuMachine::GuestTime() const {
  const absl::StatusOr<int64_t> now = ReadPage(offsetof(Page, guest_ns));
  if (!now.ok() || *now <= 0) return std::nullopt;
  return absl::Nanoseconds(*now);
}

absl::Status QemuMachine::SetVcpuTurn(absl::Duration turn) {
  const int64_t longest = kMaxTurnNs;
  return WritePage(offsetof(Page, turn_ns),
                   turn <= absl::ZeroDuration()
                       ? longest
                       : std::clamp<int64_t>(absl::ToInt64Nanoseconds(turn), 1, longest));
}

absl::Status QemuMachine::SetRendezvous(absl::Duration guest_time) {
  return WritePage(offsetof(Page, rendezvous_at_ns),
                   guest_time == absl::InfiniteDuration()
                       ? 0
                       : std::max<int64_t>(1, absl::ToInt64Nanoseconds(guest_time)));
}

std::vector<v1::VcpuState> QemuMachine::HaltAndLook() {
  // Responses to earlier commands may come first: ours is the one that holds registers.
  absl::Status sent = SetRendezvous(absl::InfiniteDuration());
  if (sent.ok()) sent = WritePage(offsetof(Page, halt), kHalt);
  if (sent.ok()) sent = qmp_.Send("stop");
  if (sent.ok()) {
    sent = qmp_.Send("human-monitor-command", R"({"command-line":"info registers -a"})");
  }
  const absl::Duration deadline = base::RealClock()->Monotonic() + kLookTimeout;
  while (sent.ok()) {
    // A vCPU thread that waits for an answer holds QEMU's lock.
    if (Rang()) sent = Resume();
    const absl::Duration left = deadline - base::RealClock()->Monotonic();
    if (!sent.ok() || left <= absl::ZeroDuration()) break;
    absl::StatusOr<QmpMessage> message = qmp_.Await(std::min(left, kBellPeriod));
    if (absl::IsDeadlineExceeded(message.status())) continue;
    if (!message.ok() || message->kind == QmpMessage::Kind::kError) break;
    if (message->kind != QmpMessage::Kind::kReturn) continue;
    std::vector<v1::VcpuState> vcpus = ParseRegisters(message->text);
    if (!vcpus.empty()) return vcpus;
  }
  return {};
}

bool QemuMachine::CanRewind() const {
  return at_bell_ && bounded_ && knows_version_ && shared_ == nullptr && console_.CanRestart() &&
         ReadPage(offsetof(Page, can_rewind)).value_or(0) != 0;
}

absl::Status QemuMachine::Rewind() {
  if (!CanRewind()) return absl::FailedPreconditionError("this machine cannot be rewound");
  KTSTR_RETURN_IF_ERROR(SetRendezvous(absl::InfiniteDuration()));
  KTSTR_RETURN_IF_ERROR(WritePage(offsetof(Page, halt), kHaltInOrder));
  KTSTR_RETURN_IF_ERROR(Resume());
  const absl::Duration deadline = base::RealClock()->Monotonic() + kHaltTimeout;
  for (bool halted = false; !halted;) {
    KTSTR_ASSIGN_OR_RETURN(const int64_t value, ReadPage(offsetof(Page, halted)));
    halted = value != 0;
    if (Rang()) KTSTR_RETURN_IF_ERROR(Resume());
    if (base::RealClock()->Monotonic() > deadline) {
      return absl::DeadlineExceededError("the vCPUs do not come to a halt");
    }
    if (!halted) absl::SleepFor(kHaltPeriod);
  }
  KTSTR_RETURN_IF_ERROR(Execute("stop"));
  KTSTR_RETURN_IF_ERROR(WritePage(offsetof(Page, rewind), kRewindAsked));
  // QEMU's main thread wakes up for the command, and the library acts before it.
  KTSTR_RETURN_IF_ERROR(Execute("query-status"));
  KTSTR_ASSIGN_OR_RETURN(const int64_t rewound, ReadPage(offsetof(Page, rewind)));
  if (rewound != kRewound) {
    return absl::InternalError(
        absl::StrCat("QEMU did not go back to the snapshot: ", EngineOutput()));
  }
  console_.Restart();
  return absl::OkStatus();
}

std::string QemuMachine::Ending() {
  const std::optional<base::ExitStatus> status = child_->Wait(absl::Milliseconds(100));
  return status.has_value() ? absl::StrCat(" (it ", status->ToString(), ")") : "";
}

void QemuMachine::Stop() {
  ended_ = true;
  if (child_->Wait(absl::ZeroDuration()).has_value()) return;
  child_->Kill(SIGKILL);
  child_->Wait(absl::InfiniteDuration());
}

// Executes the program through its descriptor, for `-version` as for a machine.
base::SpawnOptions ProgramOptions(const EngineFile& program) {
  base::SpawnOptions options;
  options.argv = {ProgramPath()};
  options.fds = {{kProgramFd, program.fd.get()}};
  return options;
}

}  // namespace

absl::StatusOr<Version> QueryVersion(const EngineFile& program) {
  base::SpawnOptions options = ProgramOptions(program);
  options.argv.push_back("-version");
  absl::StatusOr<base::RunResult> result =
      base::RunCommand(std::move(options), kStartTimeout, {}, kMaxEngineOutput);
  if (!result.ok()) {
    return absl::Status(result.status().code(),
                        absl::StrCat("engine program ", program.path,
                                     " cannot be executed: ", result.status().message()));
  }
  if (!result->status.Success()) {
    return absl::FailedPreconditionError(absl::StrCat("engine program ", program.path, " -version ",
                                                      result->status.ToString(), ": ",
                                                      base::PrintableTail(result->err, 5)));
  }
  absl::StatusOr<Version> version = ParseVersion(result->out);
  return version.ok()
             ? version
             : base::Annotate(version.status(), absl::StrCat("engine program ", program.path));
}

namespace {

struct Pipe {
  base::UniqueFd read;
  base::UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe(bool read_blocks = false) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return base::ErrnoStatus(errno, "pipe");
  Pipe pipe{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
  if (!read_blocks && fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK) != 0)
    return base::ErrnoStatus(errno, "pipe");
  return pipe;
}

// A QEMU process that waits for its first command, with `ram` as its memory. `state`: the device
// state that it goes back to in a rewind, through a file offset of its own; -1: it does not.
absl::StatusOr<std::unique_ptr<QemuMachine>> StartProcess(const Launch& launch, Start start,
                                                          const std::vector<base::UniqueFd>& ram,
                                                          int state = -1) {
  KTSTR_ASSIGN_OR_RETURN(const Version version, ParseVersion(launch.version));
  KTSTR_ASSIGN_OR_RETURN(Console console, Console::Create());
  KTSTR_ASSIGN_OR_RETURN(Console output, Console::Create());
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return base::ErrnoStatus(errno, "QMP socket pair");
  }
  base::UniqueFd ours(pair[0]);
  base::UniqueFd theirs(pair[1]);
  KTSTR_ASSIGN_OR_RETURN(QmpClient qmp, QmpClient::Create(std::move(ours)));

  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd turns, TurnsLibrary());
  KTSTR_ASSIGN_OR_RETURN(Pipe says, MakePipe());

  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd page, base::MakeMemfd("ktstr-qemu-page", kPageBytes));

  KTSTR_ASSIGN_OR_RETURN(Pipe rings, MakePipe());
  KTSTR_ASSIGN_OR_RETURN(Pipe answers, MakePipe(/*read_blocks=*/true));

  base::SpawnOptions options = ProgramOptions(launch.file);
  options.env = {{absl::StrCat("LD_PRELOAD=/proc/self/fd/", kTurnsFd),
                  absl::StrCat("KTSTR_TURNS_FD=", kTurnsSaysFd),
                  absl::StrCat("KTSTR_PAGE_FD=", kPageFd), absl::StrCat("KTSTR_BELL_FD=", kBellFd),
                  absl::StrCat("KTSTR_BELL_ANSWER_FD=", kBellAnswerFd),
                  absl::StrCat("KTSTR_STATE_FD=", kStateFd)}};
  for (std::string& argument : MakeArguments(launch.plan, version, start)) {
    options.argv.push_back(std::move(argument));
  }
  options.fds.insert(options.fds.end(), {{1, output.fd()},
                                         {2, output.fd()},
                                         {kQmpFd, theirs.get()},
                                         {kKernelFd, launch.kernel},
                                         {kBootImageFd, launch.boot_image},
                                         {kConsoleFd, console.fd()},
                                         {kTurnsFd, turns.get()},
                                         {kTurnsSaysFd, says.write.get()},
                                         {kPageFd, page.get()},
                                         {kBellFd, rings.write.get()},
                                         {kBellAnswerFd, answers.read.get()}});
  if (state >= 0) options.fds.emplace_back(kStateFd, state);
  int memory_fd = kFirstMemoryFd;
  for (const base::UniqueFd& file : ram) options.fds.emplace_back(memory_fd++, file.get());
  options.rlimits[RLIMIT_FSIZE] = Console::kHardLimit;
  options.rlimits[RLIMIT_CORE] = 0;
  KTSTR_ASSIGN_OR_RETURN(base::Child child, base::Spawn(options));
  auto machine = std::make_unique<QemuMachine>(
      std::make_shared<base::Child>(std::move(child)), std::move(qmp), std::move(console),
      std::move(output), std::move(says.read), std::move(page),
      Bell{std::move(rings.read), std::move(answers.write)}, launch.file.path, version);
  KTSTR_RETURN_IF_ERROR(machine->SetVcpuTurn(launch.vcpu_turn));
  return machine;
}

// The error, with what QEMU printed if it printed anything.
absl::Status StartError(QemuMachine* machine, const absl::Status& status, std::string_view what) {
  const std::string ending = machine->Ending();
  machine->Stop();
  const std::string said = machine->EngineOutput();
  return absl::Status(status.code(),
                      absl::StrCat(machine->EngineVersion(), " ", base::ToAbsl(what), ": ",
                                   said.empty() ? absl::StrCat(status.message(), ending) : said));
}

// The rest of a restore, after the start of the process.
absl::Status FinishRestore(QemuMachine* machine, const Snapshot& snapshot,
                           std::unique_ptr<SharedMemory> copy) {
  KTSTR_RETURN_IF_ERROR(machine->Negotiate());
  if (copy != nullptr) {
    machine->SetOwnMemory(std::move(copy));
  } else {
    KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<GuestMemory> memory,
                           PrivateMemory::Create(machine->process(), snapshot.ram));
    machine->SetMemory(std::move(memory));
  }
  // Reopened for a file offset of its own: other processes restore from the same file.
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd state, base::Reopen(snapshot.state.get(), "device state"));
  return machine->LoadState(state.get());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Machine>> Boot(const Launch& launch,
                                              std::unique_ptr<SharedMemory> memory) {
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<QemuMachine> machine,
                         StartProcess(launch, Start::kBoot, memory->files()));
  absl::Status started = machine->Negotiate();
  if (started.ok()) started = machine->StartBoot(std::move(memory));
  if (!started.ok()) return StartError(machine.get(), started, "did not start");
  return std::unique_ptr<Machine>(std::move(machine));
}

absl::StatusOr<std::unique_ptr<Machine>> Restore(const Launch& launch, const Snapshot& snapshot,
                                                 RestoredRam ram) {
  KTSTR_RETURN_IF_ERROR(CheckSnapshot(snapshot, launch.plan));
  // A copy in place of shared pages is for a host where a process may not read another's memory.
  for (const Start start : {Start::kRestore, Start::kRestoreCopy}) {
    if (start == Start::kRestore && ram == RestoredRam::kCopied) continue;
    std::unique_ptr<SharedMemory> copy;
    if (start == Start::kRestoreCopy) {
      KTSTR_ASSIGN_OR_RETURN(copy, SharedMemory::CopyOf(snapshot.ram));
    }
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd again,
                           base::Reopen(snapshot.state.get(), "device state"));
    KTSTR_ASSIGN_OR_RETURN(
        std::unique_ptr<QemuMachine> machine,
        StartProcess(launch, start, copy == nullptr ? snapshot.ram : copy->files(), again.get()));
    const absl::Status restored = FinishRestore(machine.get(), snapshot, std::move(copy));
    if (restored.ok()) return std::unique_ptr<Machine>(std::move(machine));
    if (start == Start::kRestore && absl::IsPermissionDenied(restored)) continue;
    return StartError(machine.get(), restored, "could not restore the snapshot");
  }
  return absl::InternalError("restore: neither way worked");
}

}  // namespace ktstr::vmm::qemu
