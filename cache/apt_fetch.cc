// SPDX-License-Identifier: Apache-2.0
#include "cache/apt_fetch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <limits>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/edit_distance.h"
#include "base/file.h"
#include "base/flock.h"
#include "base/head_tail.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/subprocess.h"
#include "base/utf8.h"
#include "cache/apt_sources.h"

namespace ktstr::cache {
namespace {

constexpr char kArchiveKeyring[] = "/usr/share/keyrings/debian-archive-keyring.gpg";
constexpr absl::Duration kQueryTimeout = absl::Minutes(2);
constexpr int kCancelPollMs = 200;
constexpr absl::Duration kStopGrace = absl::Seconds(5);
constexpr size_t kMaxLine = 64 << 10;
constexpr size_t kMaxErrorLines = 6;
constexpr size_t kNearestNames = 5;
constexpr int kMaxMetapackages = 4;
constexpr int kStatusFd = 3;
constexpr char kNoApt[] =
    "`kernel fetch deb:` uses apt, and this is not a Debian or Ubuntu host (apt-get is not on "
    "PATH). Download a kernel package and run `ktstrctl kernel import FILE.deb`.";

bool IsPackageName(std::string_view name) {
  return name.size() >= 2 && name.size() <= 200 && isalnum(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return islower(c) || isdigit(c) || c == '+' || c == '-' || c == '.' || c == '_' ||
                  c == '~';
         });
}

bool IsSuiteName(std::string_view name) {
  return !name.empty() && name.size() <= 100 && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return isalnum(c) || c == '-' || c == '.' || c == '_' || c == '/';
         });
}

// One call of FetchPackages.
class Fetch {
 public:
  explicit Fetch(const AptFetchOptions& options)
      : options_(options), config_(base::JoinPath(options.state_dir, "apt.conf")) {}

  absl::StatusOr<std::vector<std::string>> Run();

 private:
  struct Output {
    base::ExitStatus status;
    std::vector<std::string> errors;  // Lines of apt that begin with "E:", "W:" or "Err:".
  };

  bool Cancelled() const { return options_.cancelled && options_.cancelled(); }
  void Progress(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }
  absl::StatusOr<base::FileLock> Lock() const;
  absl::Status PrepareState();
  absl::StatusOr<std::vector<AptTarget>> IndexTargets(const char* option) const;
  absl::StatusOr<std::string> Sources();
  absl::Status Update();
  absl::StatusOr<std::string> Query(const std::vector<std::string>& arguments);
  absl::StatusOr<bool> Known(const std::string& package);
  absl::StatusOr<std::string> Follow(std::string package);
  absl::Status UnknownPackage(const std::string& package);
  absl::StatusOr<std::vector<std::string>> Download(const std::vector<std::string>& packages);
  absl::StatusOr<Output> RunApt(std::vector<std::string> arguments, const std::string& cwd);
  void TakeLine(std::string_view raw, Output* output);
  absl::Status AptError(const char* what, const Output& output) const;

  const AptFetchOptions& options_;
  const std::string config_;
  int last_percent_ = 100;  // Shows only percentages above: none during an update of the lists.
};

std::string Quote(const std::string& path) { return absl::StrCat("\"", path, "\""); }

absl::StatusOr<base::FileLock> Fetch::Lock() const {
  std::string path = base::JoinPath(options_.state_dir, "lock");
  for (bool told = false;; told = true) {
    absl::StatusOr<base::FileLock> lock = base::FileLock::Acquire(
        path, base::LockMode::kExclusive, absl::Seconds(1), "apt state directory");
    if (lock.ok() || !absl::IsDeadlineExceeded(lock.status())) return lock;
    if (Cancelled()) return absl::CancelledError("cancelled while waiting for another fetch");
    if (!told) Progress("waiting for another fetch");
  }
}

absl::StatusOr<std::vector<AptTarget>> Fetch::IndexTargets(const char* option) const {
  base::SpawnOptions spawn;
  spawn.argv = {"apt-get",  "indextargets",     option,
                "--format", kIndexTargetFormat, "Created-By: Packages"};
  KTSTR_ASSIGN_OR_RETURN(base::RunResult result, base::RunCommand(spawn, kQueryTimeout));
  if (!result.status.Success()) {
    return absl::FailedPreconditionError(
        absl::StrCat("apt-get indextargets: ",
                     base::PrintableTail(
                         base::CutMiddleLines(result.err, kMaxErrorLines / 2, kMaxErrorLines / 2),
                         std::numeric_limits<size_t>::max())));
  }
  return ParseIndexTargets(result.out);
}

absl::StatusOr<std::string> Fetch::Sources() {
  if (!options_.sources_override.empty()) return options_.sources_override;
  Progress("reading the host's apt configuration");
  AptSourcesInput input;
  // The first call has the labels of suites with package lists, the second all configured suites.
  KTSTR_ASSIGN_OR_RETURN(std::vector<AptTarget> listed, IndexTargets("--release-info"));
  KTSTR_ASSIGN_OR_RETURN(std::vector<AptTarget> configured, IndexTargets("--no-release-info"));
  input.host = MergeTargets(std::move(listed), configured);
  input.suites = options_.suites;
  if (base::Exists(kArchiveKeyring)) input.archive_keyring = kArchiveKeyring;
  input.signed_by = [](const std::string& entry) -> std::string {
    size_t colon = entry.rfind(':');
    int number = 0;
    if (colon == std::string::npos || !absl::SimpleAtoi(entry.substr(colon + 1), &number))
      return "";
    std::string path = entry.substr(0, colon);
    absl::StatusOr<std::string> text = base::ReadFile(path);
    return text.ok() ? SignedByOf(*text, absl::EndsWith(path, ".sources"), number) : "";
  };
  return MakeAptSources(input);
}

// apt reads the host's configuration first (proxies, credentials). This file then redirects all
// that apt writes, and drops the host's hooks, which act on the host's state.
absl::Status Fetch::PrepareState() {
  const std::string& state = options_.state_dir;
  if (state.find_first_of("\"\\\n") != std::string::npos || state.empty() || state[0] != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("apt state directory '", state, "' must be an absolute path without quotes"));
  }
  for (const char* dir :
       {"lists/partial", "cache/archives/partial", "preferences.d", "sources.d"}) {
    KTSTR_RETURN_IF_ERROR(base::MakeDirs(base::JoinPath(state, dir)));
  }
  KTSTR_ASSIGN_OR_RETURN(std::string sources, Sources());
  bool override = !options_.sources_override.empty();
  std::string list =
      base::JoinPath(state, override ? "sources.d/ktstr.list" : "sources.d/ktstr.sources");
  KTSTR_RETURN_IF_ERROR(base::RemoveAll(base::JoinPath(state, "sources.d/ktstr.list")));
  KTSTR_RETURN_IF_ERROR(base::RemoveAll(base::JoinPath(state, "sources.d/ktstr.sources")));
  KTSTR_RETURN_IF_ERROR(base::WriteFileAtomic(list, sources));
  std::string preferences;
  for (const std::string& suite : options_.suites) {
    // Backports are NotAutomatic: without this apt would resolve a metapackage to the host's
    // kernel.
    absl::StrAppend(&preferences, "Package: *\nPin: release n=", suite, "\nPin-Priority: 990\n\n",
                    "Package: *\nPin: release a=", suite, "\nPin-Priority: 990\n\n");
  }
  KTSTR_RETURN_IF_ERROR(
      base::WriteFileAtomic(base::JoinPath(state, "preferences.d/ktstr"), preferences));
  KTSTR_RETURN_IF_ERROR(base::WriteFileAtomic(base::JoinPath(state, "status"), ""));
  auto at = [&](const char* name) { return Quote(base::JoinPath(state, name)); };
  std::string config = absl::StrCat(
      "Dir::State ", Quote(state), ";\nDir::State::lists ", at("lists"), ";\nDir::State::status ",
      at("status"), ";\nDir::Cache ", at("cache"), ";\nDir::Cache::archives ", at("cache/archives"),
      ";\nDir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts ", at("sources.d"),
      ";\nDir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts ", at("preferences.d"),
      ";\nDir::Log \"/dev/null\";\nAPT::Architecture \"amd64\";\n#clear APT::Architectures;\n",
      "Acquire::Languages \"none\";\nAcquire::Retries \"2\";\nAcquire::http::Timeout \"30\";\n",
      "Acquire::https::Timeout \"30\";\nAPT::Update::Error-Mode \"any\";\n",
      "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n",
      "#clear APT::Update::Post-Invoke-Success;\n#clear Acquire::IndexTargets;\n",
      "Acquire::IndexTargets::deb::Packages { MetaKey "
      "\"$(COMPONENT)/binary-$(ARCHITECTURE)/Packages\"; flatMetaKey \"Packages\"; "
      "ShortDescription "
      "\"Packages\"; Description \"$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages\"; "
      "flatDescription \"$(RELEASE) Packages\"; Optional \"no\"; };\n");
  // As root, apt would switch to the user _apt, who may not write here.
  if (geteuid() == 0) absl::StrAppend(&config, "APT::Sandbox::User \"root\";\n");
  return base::WriteFileAtomic(config_, config);
}

void Fetch::TakeLine(std::string_view raw, Output* output) {
  std::string line = base::PrintableTail(raw, 1);
  absl::StripAsciiWhitespace(&line);
  std::vector<absl::string_view> words = absl::StrSplit(line, ':');
  // "dlstatus:1:42.3:Retrieving file 1 of 1" of APT::Status-Fd.
  if (words.size() >= 4 && words[0] == "dlstatus") {
    double percent = 0;
    if (!absl::SimpleAtod(words[2], &percent)) return;
    int rounded = static_cast<int>(percent) / 10 * 10;
    if (rounded > last_percent_) Progress(absl::StrCat("downloading: ", rounded, " %"));
    last_percent_ = std::max(last_percent_, rounded);
    return;
  }
  for (const char* prefix : {"E:", "W:", "Err:"}) {
    if (absl::StartsWith(line, prefix)) output->errors.push_back(line);
  }
  for (const char* prefix : {"Get:", "Hit:", "Ign:", "Err:", "Fetched "}) {
    if (absl::StartsWith(line, prefix)) Progress(line);
  }
}

absl::StatusOr<Fetch::Output> Fetch::RunApt(std::vector<std::string> arguments,
                                            const std::string& cwd) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return base::ErrnoStatus(errno, "pipe");
  base::UniqueFd read_end(pipe_fds[0]);
  base::UniqueFd write_end(pipe_fds[1]);
  base::SpawnOptions spawn;
  spawn.argv = {"apt-get", "-c", config_, "-o", absl::StrCat("APT::Status-Fd=", kStatusFd)};
  spawn.argv.insert(spawn.argv.end(), arguments.begin(), arguments.end());
  spawn.fds = {{1, write_end.get()}, {2, write_end.get()}, {kStatusFd, write_end.get()}};
  spawn.cwd = cwd;
  spawn.new_process_group = true;  // Its methods (http, gpgv) end with it.
  std::vector<std::string> env = {"LC_ALL=C"};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!absl::StartsWith(*variable, "LC_ALL=") && !absl::StartsWith(*variable, "LANGUAGE=")) {
      env.push_back(*variable);
    }
  }
  spawn.env = env;
  KTSTR_ASSIGN_OR_RETURN(base::Child child, base::Spawn(spawn));
  write_end.Reset();
  Output output;
  std::string pending;
  for (bool cancelled = false;;) {
    pollfd ready = {read_end.get(), POLLIN, 0};
    int count = poll(&ready, 1, kCancelPollMs);
    if (count < 0 && errno != EINTR) return base::ErrnoStatus(errno, "poll");
    cancelled = cancelled || Cancelled();
    if (cancelled) {
      kill(-child.pid(), SIGTERM);
      if (!child.Wait(kStopGrace).has_value()) kill(-child.pid(), SIGKILL);
      return absl::CancelledError(absl::StrCat("fetch of ", options_.package, " cancelled"));
    }
    if (count <= 0) continue;
    char buffer[4096];
    ssize_t got = read(read_end.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    pending.append(buffer, static_cast<size_t>(got));
    for (size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1)) {
      TakeLine(std::string_view(pending).substr(0, end), &output);
    }
    if (pending.size() > kMaxLine) pending.clear();
  }
  TakeLine(pending, &output);
  // Its output has ended, so apt-get ends too, unless one of its methods keeps it waiting.
  std::optional<base::ExitStatus> status = child.Wait(kQueryTimeout);
  if (!status.has_value()) return absl::DeadlineExceededError("apt-get does not exit");
  output.status = *status;
  return output;
}

absl::Status Fetch::AptError(const char* what, const Output& output) const {
  std::vector<std::string> lines;
  std::copy_if(output.errors.begin(), output.errors.end(), std::back_inserter(lines),
               [](const std::string& line) { return absl::StartsWith(line, "E:"); });
  if (lines.empty()) lines = output.errors;
  std::string all = absl::StrJoin(output.errors, "\n");
  std::string text = absl::StrCat(
      what, " ", output.status.ToString(), ": ",
      absl::StrReplaceAll(
          base::CutMiddleLines(absl::StrJoin(lines, "\n"), kMaxErrorLines / 2, kMaxErrorLines / 2),
          {{"\n", "\n  "}}));
  auto says = [&](absl::string_view words) { return absl::StrContains(all, words); };
  if (says("No space left on device") || says("don't have enough free space")) {
    return absl::FailedPreconditionError(absl::StrCat(
        text, "\n  hint: free space below ", options_.state_dir, " and ", options_.dest_dir,
        ", or set KTSTR_CACHE_DIR to a directory on another file system"));
  }
  if (says("Hash Sum mismatch") || says("File has unexpected size") || says("Size mismatch")) {
    return absl::DataLossError(absl::StrCat(
        text,
        "\n  hint: the file is not the one of the package list: from a mirror in the middle "
        "of an update, or from a proxy with an old copy; try again later"));
  }
  if (says("NO_PUBKEY") || says("is not signed") || says("EXPKEYSIG")) {
    return absl::FailedPreconditionError(
        absl::StrCat(text,
                     "\n  hint: the suite's key is not in the host's keyring: update the package "
                     "debian-archive-keyring"));
  }
  return absl::UnavailableError(absl::StrCat(
      text,
      "\n  hint: is the network there? `apt-get update` of the host uses the same mirror and "
      "proxies; `ktstrctl kernel import FILE.deb` works without a network"));
}

absl::Status Fetch::Update() {
  Progress("updating the package lists");
  KTSTR_ASSIGN_OR_RETURN(Output output, RunApt({"update"}, options_.state_dir));
  if (output.status.Success()) return absl::OkStatus();
  return AptError("apt-get update", output);
}

absl::StatusOr<std::string> Fetch::Query(const std::vector<std::string>& arguments) {
  base::SpawnOptions spawn;
  spawn.argv = {"apt-cache", "-c", config_};
  spawn.argv.insert(spawn.argv.end(), arguments.begin(), arguments.end());
  KTSTR_ASSIGN_OR_RETURN(base::RunResult result,
                         base::RunCommand(spawn, kQueryTimeout, {}, size_t{64} << 20));
  return result.status.Success() ? result.out : "";  // apt-cache fails when it finds nothing.
}

absl::StatusOr<bool> Fetch::Known(const std::string& package) {
  KTSTR_ASSIGN_OR_RETURN(std::string shown, Query({"show", "--no-all-versions", package}));
  return absl::StartsWith(shown, absl::StrCat("Package: ", package, "\n"));
}

// Finds the package with the image of a metapackage: linux-image-amd64 depends on
// linux-image-RELEASE, and that since 6.19 on linux-binary-RELEASE.
absl::StatusOr<std::string> Fetch::Follow(std::string package) {
  for (int i = 0; i < kMaxMetapackages && absl::StartsWith(package, "linux-image-"); ++i) {
    KTSTR_ASSIGN_OR_RETURN(std::string depends, Query({"depends", package}));
    std::string next;
    for (absl::string_view line : absl::StrSplit(depends, '\n')) {
      line = absl::StripAsciiWhitespace(line);
      if (absl::ConsumePrefix(&line, "Depends: ") &&
          (absl::StartsWith(line, "linux-binary-") ||
           (next.empty() && absl::StartsWith(line, "linux-image-")))) {
        next = std::string(line);
      }
    }
    if (next.empty() || next == package) break;
    Progress(absl::StrCat(package, " depends on ", next));
    package = next;
  }
  return package;
}

absl::Status Fetch::UnknownPackage(const std::string& package) {
  std::vector<std::pair<size_t, std::string>> near;
  for (const char* prefix : {"linux-image-", "linux-binary-"}) {
    KTSTR_ASSIGN_OR_RETURN(std::string names, Query({"pkgnames", prefix}));
    for (absl::string_view name : absl::StrSplit(names, '\n', absl::SkipEmpty())) {
      if (absl::EndsWith(name, "-dbg") || absl::EndsWith(name, "-unsigned")) continue;
      near.emplace_back(base::EditDistance(package, base::ToStd(name)), std::string(name));
    }
  }
  std::sort(near.begin(), near.end());
  if (near.size() > kNearestNames) near.resize(kNearestNames);
  std::string message = absl::StrCat("no package '", package, "' in the host's suites");
  if (!options_.suites.empty()) {
    absl::StrAppend(&message, " and ", absl::StrJoin(options_.suites, ", "));
  }
  if (near.empty()) return absl::NotFoundError(absl::StrCat(message, ", nor any other kernel"));
  absl::StrAppend(&message, "; nearest kernels:");
  for (const auto& [distance, name] : near) absl::StrAppend(&message, "\n  ", name);
  return absl::NotFoundError(message);
}

absl::StatusOr<std::vector<std::string>> Fetch::Download(const std::vector<std::string>& packages) {
  // apt-get writes under the final name: in a directory of its own, the rest of a killed download
  // cannot count as a package.
  std::string partial = base::JoinPath(options_.dest_dir, ".download");
  KTSTR_RETURN_IF_ERROR(base::RemoveAll(partial));
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(partial));
  Progress(absl::StrCat("downloading ", absl::StrJoin(packages, " and ")));
  std::vector<std::string> arguments = {"download"};
  arguments.insert(arguments.end(), packages.begin(), packages.end());
  last_percent_ = 0;
  absl::StatusOr<Output> output = RunApt(arguments, partial);
  absl::Status status = output.status();
  if (status.ok() && !output->status.Success()) status = AptError("apt-get download", *output);
  std::vector<std::string> paths;
  for (const std::string& package : packages) {
    if (!status.ok()) break;
    absl::StatusOr<std::vector<std::string>> names = base::ListDir(partial);
    if (!names.ok()) return names.status();
    auto found = std::find_if(names->begin(), names->end(), [&](const std::string& name) {
      return absl::StartsWith(name, absl::StrCat(package, "_")) && absl::EndsWith(name, ".deb");
    });
    if (found == names->end()) {
      status = absl::InternalError(absl::StrCat("apt-get download left no ", package, "_*.deb"));
      break;
    }
    std::string path = base::JoinPath(options_.dest_dir, *found);
    if (rename(base::JoinPath(partial, *found).c_str(), path.c_str()) != 0) {
      status = base::ErrnoStatus(errno, absl::StrCat("rename to ", path));
    }
    paths.push_back(std::move(path));
  }
  base::RemoveAll(partial).IgnoreError();  // Else the next fetch removes it.
  KTSTR_RETURN_IF_ERROR(status);
  return paths;
}

absl::StatusOr<std::vector<std::string>> Fetch::Run() {
  for (const char* program : {"apt-get", "apt-cache"}) {
    if (!base::FindProgram(program).ok()) return absl::FailedPreconditionError(kNoApt);
  }
  if (!IsPackageName(options_.package)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", base::PrintableTail(options_.package, 1),
                     "' is not a package name (lower-case letters, digits, '+', '-', '.')"));
  }
  for (const std::string& suite : options_.suites) {
    if (!IsSuiteName(suite)) {
      return absl::InvalidArgumentError(absl::StrCat("'", suite, "' is not the name of a suite"));
    }
  }
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(options_.state_dir));
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(options_.dest_dir));
  KTSTR_ASSIGN_OR_RETURN(base::FileLock lock, Lock());
  KTSTR_RETURN_IF_ERROR(PrepareState());
  absl::Status updated = Update();
  if (absl::IsCancelled(updated)) return updated;
  // Lists from an earlier fetch may be enough: another repository may have failed, or the mirror
  // may lack only the lists.
  KTSTR_ASSIGN_OR_RETURN(bool known, Known(options_.package));
  if (!updated.ok() && !known) return updated;
  if (!updated.ok()) {
    Progress(absl::StrCat("going on with older package lists: ", updated.message()));
  }
  if (!known) return UnknownPackage(options_.package);
  KTSTR_ASSIGN_OR_RETURN(std::string package, Follow(options_.package));
  std::vector<std::string> packages = {package};
  absl::string_view release = package;
  if (absl::ConsumePrefix(&release, "linux-binary-")) {
    std::string base = absl::StrCat("linux-base-", release);
    KTSTR_ASSIGN_OR_RETURN(bool has_base, Known(base));
    if (has_base) {
      packages.push_back(base);
    } else {
      Progress(absl::StrCat("no package ", base, ": the kernel comes without its configuration"));
    }
  }
  return Download(packages);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> FetchPackages(const AptFetchOptions& options) {
  return Fetch(options).Run();
}

}  // namespace ktstr::cache
