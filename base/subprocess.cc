// SPDX-License-Identifier: Apache-2.0
#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/descriptors.h"
#include "base/file.h"
#include "base/head_tail.h"
#include "base/status_macros.h"
#include "base/string_view.h"

namespace ktstr::base {
namespace {

constexpr unsigned kCloseRangeCloexec = 1U << 2;  // CLOSE_RANGE_CLOEXEC, linux/close_range.h

// All that the child needs, made before fork: after fork only async-signal-safe calls are allowed.
struct ChildPlan {
  const char* program;
  char* const* argv;
  char* const* envp;
  const char* cwd;
  const std::vector<std::pair<int, int>>* fds;  // Sources above every target.
  const std::map<int, uint64_t>* rlimits;
  const rlimit* descriptor_limit;  // Null: the parent's.
  int error_fd;                    // Close-on-exec pipe: receives errno when exec fails.
  pid_t parent;
  bool die_with_parent;
  bool new_session;
  bool new_process_group;
};

[[noreturn]] void FailChild(int error_fd) {
  int error = errno;
  [[maybe_unused]] ssize_t put = write(error_fd, &error, sizeof(error));
  _exit(127);
}

[[noreturn]] void RunChild(const ChildPlan& plan) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  if (plan.new_session) setsid();
  if (plan.new_process_group) setpgid(0, 0);
  if (plan.die_with_parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) FailChild(plan.error_fd);
    if (getppid() != plan.parent) _exit(127);  // The parent died before prctl.
  }
  if (syscall(SYS_close_range, 3U, ~0U, kCloseRangeCloexec) != 0) {
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = 3; fd < limit; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  for (const auto& [target, source] : *plan.fds) {
    if (dup2(source, target) < 0) FailChild(plan.error_fd);
  }
  if (plan.cwd != nullptr && chdir(plan.cwd) != 0) FailChild(plan.error_fd);
  if (plan.descriptor_limit != nullptr && setrlimit(RLIMIT_NOFILE, plan.descriptor_limit) != 0) {
    FailChild(plan.error_fd);
  }
  for (const auto& [resource, value] : *plan.rlimits) {
    rlimit limit{value, value};
    if (setrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) FailChild(plan.error_fd);
  }
  execve(plan.program, plan.argv, plan.envp);
  FailChild(plan.error_fd);
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& s : strings) pointers.push_back(const_cast<char*>(s.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Copies each source above all targets, so that dup2 in the child overwrites no source.
absl::Status LiftFds(const SpawnOptions& options, std::vector<UniqueFd>* owned,
                     std::vector<std::pair<int, int>>* lifted) {
  int floor = 10;
  for (const auto& [target, source] : options.fds) floor = std::max(floor, target + 1);
  std::vector<std::pair<int, int>> wanted = options.fds;
  UniqueFd null;
  for (int standard = 0; standard < 3; ++standard) {
    bool named = std::any_of(wanted.begin(), wanted.end(),
                             [&](const auto& pair) { return pair.first == standard; });
    if (named) continue;
    if (!null.valid()) {
      KTSTR_ASSIGN_OR_RETURN(null, Open("/dev/null", O_RDWR));
    }
    wanted.emplace_back(standard, null.get());
  }
  for (const auto& [target, source] : wanted) {
    UniqueFd copy(fcntl(source, F_DUPFD_CLOEXEC, floor));
    if (!copy.valid()) return ErrnoStatus(errno, absl::StrCat("descriptor ", source));
    lifted->emplace_back(target, copy.get());
    owned->push_back(std::move(copy));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

int PollMilliseconds(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return -1;
  return static_cast<int>(std::clamp<int64_t>(
      absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1))), 0, 1 << 30));
}

// Reads once; closes `fd` at end of file.
void DrainOutput(UniqueFd* fd, HeadTail* out) {
  char buffer[1 << 16];
  ssize_t got = read(fd->get(), buffer, sizeof(buffer));
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {
    fd->Reset();
    return;
  }
  out->Append({buffer, static_cast<size_t>(got)});
}

void FeedInput(UniqueFd* fd, std::string_view* input) {
  ssize_t put = write(fd->get(), input->data(), std::min<size_t>(input->size(), 4096));
  if (put < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (put > 0) input->remove_prefix(static_cast<size_t>(put));
  if (put < 0 || input->empty()) fd->Reset();
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (signal != 0) return absl::StrCat("killed by signal ", signal, " (", strsignal(signal), ")");
  return absl::StrCat("exited with ", code);
}

absl::StatusOr<std::string> FindProgram(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  const char* path = getenv("PATH");
  for (absl::string_view dir : absl::StrSplit(path != nullptr ? path : "/usr/bin:/bin", ':')) {
    std::string candidate = JoinPath(dir.empty() ? "." : ToStd(dir), program);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return absl::NotFoundError(
      absl::StrCat(program, ": not found on PATH (", path != nullptr ? path : "unset", ")"));
}

absl::StatusOr<Child> Spawn(const SpawnOptions& options) {
  if (options.argv.empty()) return absl::InvalidArgumentError("spawn: empty argv");
  KTSTR_ASSIGN_OR_RETURN(std::string program, FindProgram(options.argv[0]));
  std::vector<UniqueFd> owned;
  std::vector<std::pair<int, int>> lifted;
  KTSTR_RETURN_IF_ERROR(LiftFds(options, &owned, &lifted));
  KTSTR_ASSIGN_OR_RETURN(auto pipe, MakePipe());
  UniqueFd error_end(fcntl(pipe.second.get(), F_DUPFD_CLOEXEC, lifted.back().second));
  if (!error_end.valid()) return ErrnoStatus(errno, "dup");
  pipe.second.Reset();

  std::vector<char*> argv = Pointers(options.argv);
  std::vector<char*> env = options.env.has_value() ? Pointers(*options.env) : std::vector<char*>();
  const std::optional<rlimit> descriptor_limit = OriginalDescriptorLimit();
  ChildPlan plan{program.c_str(),
                 argv.data(),
                 options.env.has_value() ? env.data() : environ,
                 options.cwd.empty() ? nullptr : options.cwd.c_str(),
                 &lifted,
                 &options.rlimits,
                 descriptor_limit.has_value() ? &*descriptor_limit : nullptr,
                 error_end.get(),
                 getpid(),
                 options.die_with_parent,
                 options.new_session,
                 options.new_process_group};
  // Signals stay blocked until fork returns: the parent's handlers must not run in the child.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t pid = fork();
  if (pid == 0) RunChild(plan);
  int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return ErrnoStatus(fork_error, absl::StrCat("fork for ", program));

  absl::StatusOr<Child> child = Child::Adopt(pid);
  error_end.Reset();
  int error = 0;
  ssize_t got = read(pipe.first.get(), &error, sizeof(error));
  while (got < 0 && errno == EINTR) got = read(pipe.first.get(), &error, sizeof(error));
  if (got == sizeof(error)) return ErrnoStatus(error, absl::StrCat("execute ", program));
  if (!child.ok()) return Annotate(child.status(), program);
  return child;
}

absl::StatusOr<Child> Child::Adopt(pid_t pid) {
  Child child(pid, UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))));
  if (!child.pidfd_.valid()) {
    return ErrnoStatus(errno, absl::StrCat("pidfd_open of process ", pid));
  }
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      status_(other.status_) {}

Child::~Child() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Child::Kill(int signal) {
  if (pid_ > 0 && !status_.has_value()) kill(pid_, signal);
}

pid_t Child::Detach() { return std::exchange(pid_, -1); }

std::optional<ExitStatus> Child::Wait(absl::Duration timeout) {
  if (status_.has_value() || pid_ <= 0) return status_;
  const absl::Duration deadline = RealClock()->Monotonic() + timeout;
  pollfd wait{pidfd_.get(), POLLIN, 0};
  for (;;) {
    const int ready = poll(&wait, 1, PollMilliseconds(deadline - RealClock()->Monotonic()));
    if (ready > 0) break;
    if (ready == 0 || errno != EINTR) return std::nullopt;
  }
  siginfo_t info{};
  while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
  }
  const bool exited = info.si_code == CLD_EXITED;
  status_ = ExitStatus{exited ? info.si_status : 0, exited ? 0 : info.si_status};
  return status_;
}

absl::StatusOr<RunResult> RunCommand(SpawnOptions options, absl::Duration timeout,
                                     std::string_view input, size_t max_output) {
  KTSTR_ASSIGN_OR_RETURN(auto in, MakePipe());
  KTSTR_ASSIGN_OR_RETURN(auto out, MakePipe());
  KTSTR_ASSIGN_OR_RETURN(auto err, MakePipe());
  options.fds.insert(options.fds.end(),
                     {{0, in.first.get()}, {1, out.second.get()}, {2, err.second.get()}});
  absl::StatusOr<Child> child = Spawn(options);
  if (!child.ok()) return child.status();
  in.first.Reset();
  out.second.Reset();
  err.second.Reset();
  if (input.empty()) in.second.Reset();
  if (in.second.valid()) fcntl(in.second.get(), F_SETFL, O_NONBLOCK);

  // Blocks SIGPIPE: a child that ends without reading its input must not end this process.
  sigset_t pipe_signal;
  sigset_t before;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  HeadTail out_text(max_output / 4, max_output - max_output / 4);
  HeadTail err_text(max_output / 4, max_output - max_output / 4);
  const absl::Duration deadline = RealClock()->Monotonic() + timeout;
  bool late = false;
  while (out.first.valid() || err.first.valid()) {
    pollfd waits[3] = {
        {out.first.get(), POLLIN, 0}, {err.first.get(), POLLIN, 0}, {in.second.get(), POLLOUT, 0}};
    int ready = poll(waits, 3, PollMilliseconds(deadline - RealClock()->Monotonic()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      late = true;
      break;
    }
    if (waits[0].revents != 0) DrainOutput(&out.first, &out_text);
    if (waits[1].revents != 0) DrainOutput(&err.first, &err_text);
    if (waits[2].revents != 0) FeedInput(&in.second, &input);
  }
  std::optional<ExitStatus> status;
  if (!late) status = child->Wait(deadline - RealClock()->Monotonic());
  timespec now{};
  sigtimedwait(&pipe_signal, nullptr, &now);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!status.has_value()) {
    return absl::DeadlineExceededError(
        absl::StrCat(options.argv[0], ": did not end within ", absl::FormatDuration(timeout)));
  }
  return RunResult{.status = *status, .out = out_text.Text(), .err = err_text.Text()};
}

}  // namespace ktstr::base
