// SPDX-License-Identifier: Apache-2.0
//
// The replaced calls are at the end, as the C library declares them. Each asks Gate whether to
// fail, and otherwise calls the kernel by syscall(2), so that nothing here calls itself.
#include "base/testing/faults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <utility>

namespace ktstr::base {
namespace {

// The ways in which a call can fail.
enum Ability : unsigned {
  kCanIo = 0,  // All can.
  kNeedsSpace = 1,
  kOpens = 2,
  kRepeats = 4,  // The caller repeats it after EINTR.
  kTransfers = 8,
  kChanges = 16,
};

constexpr int kMaxFd = 65536;
constexpr int kChildFailed = 99;
constexpr off_t kInlineBytes = 2048;  // Less stands in the inode.

// A change of names, with what is needed to undo it.
struct NameChange {
  enum Kind { kCreated, kMadeDir, kRenamed, kRemoved, kRemovedDir };
  Kind kind;
  std::string path;   // The name that appeared or disappeared.
  std::string from;   // kRenamed: the old name.
  std::string stash;  // A link to the file that had the name `path` before; empty: none.
};

// What a file holds after a power cut.
struct Content {
  int fd = -1;  // For reading and writing, of our own.
  std::string synced;
};

struct State {
  std::mutex mutex;
  std::string root;
  std::string stash;
  uint64_t stashed = 0;
  Fault fault = Fault::kIo;
  uint64_t at = 0;  // 0: none.
  uint64_t seen = 0;
  bool lasting = false;
  uint64_t last = 0;  // With `lasting`.
  bool fired = false;
  bool fds[kMaxFd] = {};
  std::vector<NameChange> names;
  std::map<std::pair<dev_t, ino_t>, Content> contents;
};

std::atomic<bool> active = false;

State& state() {
  static State* const kept = new State;
  return *kept;
}

bool PowerCut(Fault fault) {
  return fault == Fault::kPowerCut || fault == Fault::kPowerCutNamesStay ||
         fault == Fault::kPowerCutSizesStay || fault == Fault::kPowerCutContentStays;
}

int RawOpen(const char* path, int flags, mode_t mode = 0) {
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

bool Below(const std::string& path) {
  const std::string& root = state().root;
  return path.compare(0, root.size(), root) == 0 &&
         (path.size() == root.size() || path[root.size()] == '/');
}

bool Tracked(int fd) { return fd >= 0 && fd < kMaxFd && state().fds[fd]; }

// The absolute path, or "" when it is not below the root.
std::string Resolve(int dir, const char* path) {
  std::string full = path == nullptr ? "" : path;
  if (full.empty()) return full;
  if (full[0] != '/' && dir != AT_FDCWD) {
    char link[4096];
    const ssize_t size =
        readlink(("/proc/self/fd/" + std::to_string(dir)).c_str(), link, sizeof(link));
    if (size <= 0) return "";
    full = std::string(link, static_cast<size_t>(size)) + "/" + full;
  }
  return Below(full) ? full : "";
}

std::string Parent(const std::string& path) { return path.substr(0, path.rfind('/')); }

std::string ReadRaw(int fd) {
  std::string data;
  char buffer[65536];
  ssize_t got;
  while ((got = syscall(SYS_pread64, fd, buffer, sizeof(buffer), static_cast<off_t>(data.size()))) >
         0) {
    data.append(buffer, static_cast<size_t>(got));
  }
  return data;
}

void WriteRaw(int fd, const std::string& data) {
  (void)!syscall(SYS_ftruncate, fd, 0L);
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t put =
        syscall(SYS_pwrite64, fd, data.data() + done, data.size() - done, static_cast<off_t>(done));
    if (put <= 0) abort();
    done += static_cast<size_t>(put);
  }
}

// Keeps the content of a file before it may change. `empty`: the file is new.
void KeepContent(const std::string& path, bool empty) {
  if (!PowerCut(state().fault) || state().at == 0) return;
  struct stat info;
  if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return;
  Content& content = state().contents[{info.st_dev, info.st_ino}];
  if (content.fd >= 0) return;
  if ((info.st_mode & 0600) != 0600) chmod(path.c_str(), info.st_mode | 0600);
  content.fd = RawOpen(path.c_str(), O_RDWR | O_CLOEXEC);
  if (content.fd < 0) abort();
  chmod(path.c_str(), info.st_mode);
  if (!empty) content.synced = ReadRaw(content.fd);
}

void KeepName(NameChange change) {
  if (PowerCut(state().fault) && state().at != 0) state().names.push_back(std::move(change));
}

// Gives the file at `path` a second name; "" when there is no file.
std::string Stash(const std::string& path) {
  if (!PowerCut(state().fault) || state().at == 0) return "";
  std::string stash = state().stash + "/" + std::to_string(++state().stashed);
  return syscall(SYS_linkat, AT_FDCWD, path.c_str(), AT_FDCWD, stash.c_str(), 0) == 0 ? stash : "";
}

void Synced(int fd) {
  struct stat info;
  if (!PowerCut(state().fault) || fstat(fd, &info) != 0) return;
  if (S_ISDIR(info.st_mode)) {
    char link[4096];
    const ssize_t size =
        readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), link, sizeof(link));
    const std::string name(link, static_cast<size_t>(std::max<ssize_t>(size, 0)));
    auto& names = state().names;
    names.erase(std::remove_if(names.begin(), names.end(),
                               [&](const NameChange& c) { return Parent(c.path) == name; }),
                names.end());
    return;
  }
  const auto found = state().contents.find({info.st_dev, info.st_ino});
  if (found != state().contents.end()) found->second.synced = ReadRaw(found->second.fd);
}

void RemoveTree(const std::string& path) {
  if (syscall(SYS_unlinkat, AT_FDCWD, path.c_str(), 0) == 0) return;
  static auto* const real = reinterpret_cast<DIR* (*)(const char*)>(dlsym(RTLD_NEXT, "opendir"));
  if (DIR* dir = real(path.c_str()); dir != nullptr) {
    while (dirent* entry = readdir(dir)) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      std::string child = path;
      RemoveTree(child.append("/").append(name));
    }
    closedir(dir);
  }
  (void)!syscall(SYS_unlinkat, AT_FDCWD, path.c_str(), AT_REMOVEDIR);
}

void LoseNames() {
  for (auto change = state().names.rbegin(); change != state().names.rend(); ++change) {
    switch (change->kind) {
      case NameChange::kCreated:
      case NameChange::kMadeDir:
        RemoveTree(change->path);
        break;
      case NameChange::kRenamed:
        (void)!syscall(SYS_rename, change->path.c_str(), change->from.c_str());
        break;
      case NameChange::kRemovedDir:
        (void)!syscall(SYS_mkdirat, AT_FDCWD, change->path.c_str(), 0755);
        break;
      case NameChange::kRemoved:
        break;
    }
    if (!change->stash.empty()) {
      (void)!syscall(SYS_rename, change->stash.c_str(), change->path.c_str());
    }
  }
}

// What was written since the last fsync reads as zeros; `content` is what was synced.
void LoseData(int fd, std::string content) {
  struct stat info;
  if (fstat(fd, &info) != 0 || info.st_size < kInlineBytes) return;
  content.resize(static_cast<size_t>(info.st_size), '\0');
  WriteRaw(fd, content);
}

[[noreturn]] void End() {
  if (state().fault == Fault::kPowerCut || state().fault == Fault::kPowerCutNamesStay) {
    for (auto& [inode, content] : state().contents) WriteRaw(content.fd, content.synced);
  }
  if (state().fault == Fault::kPowerCutSizesStay) {
    for (auto& [inode, content] : state().contents) LoseData(content.fd, content.synced);
  }
  if (state().fault == Fault::kPowerCut || state().fault == Fault::kPowerCutContentStays) {
    LoseNames();
  }
  kill(getpid(), SIGKILL);
  while (true) pause();
}

bool Applies(Fault fault, unsigned abilities) {
  switch (fault) {
    case Fault::kNoSpace:
      return (abilities & kNeedsSpace) != 0;
    case Fault::kIo:
      return true;
    case Fault::kNoDescriptors:
      return (abilities & kOpens) != 0;
    case Fault::kInterrupted:
      return (abilities & kRepeats) != 0;
    case Fault::kShort:
      return (abilities & kTransfers) != 0;
    default:
      return (abilities & kChanges) != 0;
  }
}

// 0: go on; -1: a short transfer; else the errno.
int Gate(unsigned abilities) {
  State& s = state();
  if (s.at == 0 || !Applies(s.fault, abilities)) return 0;
  ++s.seen;
  if (s.seen != s.at && !(s.lasting && s.seen > s.at && s.seen <= s.last)) return 0;
  s.fired = true;
  switch (s.fault) {
    case Fault::kNoSpace:
      return ENOSPC;
    case Fault::kIo:
      return EIO;
    case Fault::kNoDescriptors:
      return EMFILE;
    case Fault::kInterrupted:
      return EINTR;
    case Fault::kShort:
      return -1;
    default:
      End();
  }
}

// Locks the state for the duration of a call. False without a Faults object.
class Turn {
 public:
  Turn() : on_(active.load()) {
    if (on_) state().mutex.lock();
  }
  ~Turn() {
    const int kept = errno;
    if (on_) state().mutex.unlock();
    errno = kept;
  }
  explicit operator bool() const { return on_; }

 private:
  const bool on_;
};

int Fail(int error) {
  errno = error;
  return -1;
}

int OpenAt(int dir, const char* path, int flags, mode_t mode) {
  const Turn turn;
  const std::string full = turn ? Resolve(dir, path) : "";
  if (full.empty()) return static_cast<int>(syscall(SYS_openat, dir, path, flags, mode));
  struct stat info;
  const bool is_new = lstat(full.c_str(), &info) != 0;
  const bool creates = (flags & O_CREAT) != 0 && is_new;
  unsigned abilities = kOpens | kRepeats;
  if (creates) abilities |= kNeedsSpace;
  if (creates || (flags & O_TRUNC) != 0) abilities |= kChanges;
  if (const int error = Gate(abilities); error != 0) return Fail(error);
  const bool writes = (flags & O_ACCMODE) != O_RDONLY && (flags & O_TMPFILE) != O_TMPFILE;
  if (writes && !is_new) KeepContent(full, false);
  const int fd = static_cast<int>(syscall(SYS_openat, dir, path, flags, mode));
  if (fd < 0) return fd;
  if (fd < kMaxFd) state().fds[fd] = true;
  if (creates) {
    KeepContent(full, true);
    KeepName({NameChange::kCreated, full, "", ""});
  }
  return fd;
}

// A read or write; `call(n)` transfers n bytes.
template <typename Call>
ssize_t Transfer(int fd, size_t size, unsigned abilities, Call call) {
  const Turn turn;
  if (!turn || !Tracked(fd)) return call(size);
  if (size > 1) abilities |= kTransfers;
  const int error = Gate(abilities | kRepeats);
  if (error > 0) return Fail(error);
  return call(error < 0 ? size / 2 : size);
}

template <typename Call>
int OnFd(int fd, unsigned abilities, Call call) {
  const Turn turn;
  if (turn && Tracked(fd)) {
    if (const int error = Gate(abilities); error != 0) return Fail(error);
  }
  return call();
}

// Does not call the kernel: only a power cut would show the difference, and End() makes those.
int Sync(int fd) {
  const Turn turn;
  if (!turn || !Tracked(fd)) return fcntl(fd, F_GETFD) < 0 ? -1 : 0;
  if (const int error = Gate(kNeedsSpace | kChanges); error != 0) return Fail(error);
  Synced(fd);
  return 0;
}

int Remove(int dir, const char* path, int flags) {
  const Turn turn;
  const std::string full = turn ? Resolve(dir, path) : "";
  if (full.empty()) return static_cast<int>(syscall(SYS_unlinkat, dir, path, flags));
  struct stat info;
  const bool there = lstat(full.c_str(), &info) == 0;
  if (const int error = Gate(there ? kChanges : kCanIo); error != 0) return Fail(error);
  const std::string stash = there && flags == 0 ? Stash(full) : "";
  const int done = static_cast<int>(syscall(SYS_unlinkat, dir, path, flags));
  if (done != 0) return done;
  KeepName({flags == 0 ? NameChange::kRemoved : NameChange::kRemovedDir, full, "", stash});
  return 0;
}

int MakeDir(const char* path, mode_t mode) {
  const Turn turn;
  const std::string full = turn ? Resolve(AT_FDCWD, path) : "";
  if (full.empty()) return static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
  struct stat info;
  // The kernel checks for EEXIST first.
  if (lstat(full.c_str(), &info) == 0) return Fail(EEXIST);
  if (const int error = Gate(kNeedsSpace | kChanges); error != 0) return Fail(error);
  const int done = static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
  if (done == 0) KeepName({NameChange::kMadeDir, full, "", ""});
  return done;
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

mode_t ModeOf(int flags, va_list arguments) {
  const bool has = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return has ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

}  // namespace

const char* FaultName(Fault fault) {
  switch (fault) {
    case Fault::kNoSpace:
      return "ENOSPC";
    case Fault::kIo:
      return "EIO";
    case Fault::kNoDescriptors:
      return "EMFILE";
    case Fault::kInterrupted:
      return "EINTR";
    case Fault::kShort:
      return "short transfer";
    case Fault::kKill:
      return "kill";
    case Fault::kPowerCut:
      return "power cut";
    case Fault::kPowerCutNamesStay:
      return "power cut, names stay";
    case Fault::kPowerCutSizesStay:
      return "power cut, names and sizes stay";
    case Fault::kPowerCutContentStays:
      return "power cut, content stays";
  }
  return "unknown";
}

Faults::Faults(std::string root) {
  if (active.load()) abort();
  State& s = state();
  s.root = std::move(root);
  s.stash = s.root + ".stash";
  (void)!syscall(SYS_mkdirat, AT_FDCWD, s.stash.c_str(), 0700);
  std::fill(std::begin(s.fds), std::end(s.fds), false);
  Disarm();
  active = true;
}

Faults::~Faults() {
  Disarm();
  active = false;
  RemoveTree(state().stash);
}

void Faults::Arm(Fault fault, uint64_t n, bool lasting) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().fault = fault;
  state().at = n;
  state().lasting = lasting;
  state().last = std::numeric_limits<uint64_t>::max();
  state().seen = 0;
  state().fired = false;
}

void Faults::ArmFor(Fault fault, uint64_t n, uint64_t calls) {
  Arm(fault, n, /*lasting=*/true);
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().last = n + calls - 1;
}

void Faults::Disarm() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  State& s = state();
  s.at = 0;
  for (auto& [inode, content] : s.contents) (void)!syscall(SYS_close, content.fd);
  s.contents.clear();
  s.names.clear();
}

bool Faults::fired() const {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().fired;
}

void* MapShared(uint64_t size) {
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) abort();
  return at;
}

void UnmapShared(void* at, uint64_t size) { munmap(at, size); }

uint64_t EndAtEachStep(Fault fault, const std::function<std::string(uint64_t)>& prepare,
                       const std::function<void(uint64_t)>& path,
                       const std::function<void(uint64_t)>& check) {
  for (uint64_t n = 1;; ++n) {
    const std::string root = prepare(n);
    fflush(nullptr);
    const pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
      Faults faults(root);
      faults.Arm(fault, n);
      path(n);
      _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    RemoveTree(root + ".stash");
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && status != 0) {
      fprintf(stderr, "%s at step %lu: the child ended with status %d\n", FaultName(fault),
              static_cast<unsigned long>(n), status);
      _exit(kChildFailed);
    }
    check(n);
    if (!killed) return n - 1;
  }
}

}  // namespace ktstr::base

using namespace ktstr::base;  // NOLINT: the functions below have the C library's names.

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return OpenAt(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return OpenAt(AT_FDCWD, path, flags, mode);
}
int openat(int dir, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return OpenAt(dir, path, flags, mode);
}
int openat64(int dir, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return OpenAt(dir, path, flags, mode);
}
// _FORTIFY_SOURCE replaces open by these.
int __open_2(const char* path, int flags) { return OpenAt(AT_FDCWD, path, flags, 0); }
int __open64_2(const char* path, int flags) { return OpenAt(AT_FDCWD, path, flags, 0); }
int close(int fd) {
  const Turn turn;
  if (turn && fd >= 0 && fd < kMaxFd) state().fds[fd] = false;
  return static_cast<int>(syscall(SYS_close, fd));
}

ssize_t read(int fd, void* data, size_t size) {
  const auto call = [&](size_t n) { return syscall(SYS_read, fd, data, n); };
  return Transfer(fd, size, kCanIo, call);
}
ssize_t pread(int fd, void* data, size_t size, off_t at) {
  const auto call = [&](size_t n) { return syscall(SYS_pread64, fd, data, n, at); };
  return Transfer(fd, size, kCanIo, call);
}
ssize_t pread64(int fd, void* data, size_t size, off64_t at) { return pread(fd, data, size, at); }
ssize_t write(int fd, const void* data, size_t size) {
  const auto call = [&](size_t n) { return syscall(SYS_write, fd, data, n); };
  return Transfer(fd, size, kNeedsSpace | kChanges, call);
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t at) {
  const auto call = [&](size_t n) { return syscall(SYS_pwrite64, fd, data, n, at); };
  return Transfer(fd, size, kNeedsSpace | kChanges, call);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t at) {
  return pwrite(fd, data, size, at);
}

int fsync(int fd) { return Sync(fd); }
int fdatasync(int fd) { return Sync(fd); }
int ftruncate(int fd, off_t size) noexcept {
  return OnFd(fd, kNeedsSpace | kRepeats | kChanges,
              [&] { return static_cast<int>(syscall(SYS_ftruncate, fd, size)); });
}
int ftruncate64(int fd, off64_t size) noexcept { return ftruncate(fd, size); }
int fchmod(int fd, mode_t mode) noexcept {
  return OnFd(fd, kChanges, [&] { return static_cast<int>(syscall(SYS_fchmod, fd, mode)); });
}

int rename(const char* from, const char* to) noexcept {
  const Turn turn;
  const std::string full = turn ? Resolve(AT_FDCWD, to) : "";
  if (full.empty()) return static_cast<int>(syscall(SYS_rename, from, to));
  if (const int error = Gate(kNeedsSpace | kChanges); error != 0) return Fail(error);
  const std::string stash = Stash(full);
  const int done = static_cast<int>(syscall(SYS_rename, from, to));
  if (done == 0) KeepName({NameChange::kRenamed, full, from, stash});
  return done;
}
int unlink(const char* path) noexcept { return Remove(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char* path, int flags) noexcept { return Remove(dir, path, flags); }
int rmdir(const char* path) noexcept { return Remove(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdir(const char* path, mode_t mode) noexcept { return MakeDir(path, mode); }

int utimensat(int dir, const char* path, const timespec* times, int flags) noexcept {
  const Turn turn;
  if (turn && !Resolve(dir, path).empty()) {
    if (const int error = Gate(kChanges); error != 0) return Fail(error);
  }
  return static_cast<int>(syscall(SYS_utimensat, dir, path, times, flags));
}

int mkostemp(char* path, int flags) {
  static const auto real = Next<int (*)(char*, int)>("mkostemp");
  const Turn turn;
  if (!turn || Resolve(AT_FDCWD, path).empty()) return real(path, flags);
  if (const int error = Gate(kOpens | kNeedsSpace | kChanges); error != 0) return Fail(error);
  const int fd = real(path, flags);
  if (fd < 0) return fd;
  if (fd < kMaxFd) state().fds[fd] = true;
  KeepContent(path, true);
  KeepName({NameChange::kCreated, path, "", ""});
  return fd;
}
int mkostemp64(char* path, int flags) { return mkostemp(path, flags); }
char* mkdtemp(char* path) noexcept {
  static const auto real = Next<char* (*)(char*)>("mkdtemp");
  const Turn turn;
  const bool ours = turn && !Resolve(AT_FDCWD, path).empty();
  if (ours) {
    if (const int error = Gate(kNeedsSpace | kChanges); error != 0) {
      errno = error;
      return nullptr;
    }
  }
  char* made = real(path);
  if (ours && made != nullptr) KeepName({NameChange::kMadeDir, made, "", ""});
  return made;
}
DIR* opendir(const char* path) {
  static const auto real = Next<DIR* (*)(const char*)>("opendir");
  const Turn turn;
  if (turn && !Resolve(AT_FDCWD, path).empty()) {
    if (const int error = Gate(kOpens); error != 0) {
      errno = error;
      return nullptr;
    }
  }
  return real(path);
}

}  // extern "C"
