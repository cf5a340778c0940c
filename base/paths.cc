// SPDX-License-Identifier: Apache-2.0
#include "base/paths.h"

#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/sha256.h"

namespace ktstr::base {
namespace {

constexpr char kOtherWays[] =
    "or set KTSTR_CACHE_DIR to an absolute path (e.g. /tmp/ktstr-cache) or XDG_CACHE_HOME to "
    "specify a cache location explicitly.";

absl::StatusOr<std::string> Absolute(const char* variable, const std::string& value,
                                     const char* below) {
  if (value.front() != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat(variable, " is '", value,
                     "', a relative path; cannot resolve cache directory. Set it to an absolute "
                     "path (e.g. /tmp/ktstr-cache)."));
  }
  return JoinPath(value, below);
}

}  // namespace

absl::StatusOr<std::string> CacheDirFrom(const GetEnv& get_env) {
  for (auto [variable, below] : {std::pair{"KTSTR_CACHE_DIR", ""}, {"XDG_CACHE_HOME", "ktstr"}}) {
    const char* value = get_env(variable);
    if (value != nullptr && *value != '\0') return Absolute(variable, value, below);
  }
  const char* home = get_env("HOME");
  if (home == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "HOME is unset; cannot resolve cache directory. The container init or login shell did not "
        "assign HOME — set it to an absolute path, ",
        kOtherWays));
  }
  if (*home == '\0') {
    return absl::FailedPreconditionError(absl::StrCat(
        "HOME is set to the empty string; cannot resolve cache directory. An empty HOME usually "
        "means a Dockerfile or shell rc has `export HOME=` or `ENV HOME=` with no value. Either "
        "set HOME to a real absolute path, ",
        kOtherWays));
  }
  return Absolute("HOME", home, ".cache/ktstr");
}

absl::StatusOr<std::string> CacheDir() {
  return CacheDirFrom([](const char* name) -> const char* { return getenv(name); });
}

std::string Env(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

std::string ProgramDirectory() {
  char buffer[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", buffer, sizeof(buffer));
  if (n <= 0) return "";
  return std::string(Dirname(std::string_view(buffer, static_cast<size_t>(n))));
}

std::string PrivateSocketPath(const GetEnv& get_env, uid_t uid) {
  const char* runtime = get_env("XDG_RUNTIME_DIR");
  const std::string directory = runtime != nullptr && runtime[0] == '/'
                                    ? JoinPath(runtime, "ktstr")
                                    : absl::StrCat("/tmp/ktstr-", uid);
  const absl::StatusOr<std::string> cache = CacheDirFrom(get_env);
  const char* home = get_env("HOME");
  const bool usual = !cache.ok() || (home != nullptr && *cache == JoinPath(home, ".cache/ktstr"));
  return JoinPath(
      directory,
      usual ? "ktstrd.sock" : absl::StrCat("ktstrd-", Sha256Hex(*cache).substr(0, 8), ".sock"));
}

}  // namespace ktstr::base
