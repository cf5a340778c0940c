// SPDX-License-Identifier: Apache-2.0
//
// Where ktstr keeps its files: one rule for client and daemon. Any thread.

#ifndef KTSTR_BASE_PATHS_H_
#define KTSTR_BASE_PATHS_H_

#include <sys/types.h>

#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace ktstr::base {

// Returns the value of an environment variable, null when it is unset: getenv(3), or a table in a
// test.
using GetEnv = std::function<const char*(const char* name)>;

// The cache directory, absolute; it may not exist yet: $KTSTR_CACHE_DIR, else
// $XDG_CACHE_HOME/ktstr, else $HOME/.cache/ktstr. An empty KTSTR_CACHE_DIR or XDG_CACHE_HOME counts
// as unset. FailedPrecondition with the remedy when HOME is needed, and unset or empty;
// InvalidArgument when the deciding variable is not an absolute path.
absl::StatusOr<std::string> CacheDir();
absl::StatusOr<std::string> CacheDirFrom(const GetEnv& get_env);

// Value of an environment variable; empty when it is unset.
std::string Env(const char* name);

// The directory of the running program; empty without /proc.
std::string ProgramDirectory();

// The socket of the user's private daemon: $XDG_RUNTIME_DIR/ktstr/ktstrd.sock, else
// /tmp/ktstr-UID/ktstrd.sock (a relative XDG_RUNTIME_DIR counts as unset). A daemon serves one
// cache. When the environment names another cache than $HOME/.cache/ktstr, the file name is
// ktstrd-HASH8.sock, with the first 8 digits of the SHA-256 of the cache directory's path: two
// caches of one user have two daemons.
std::string PrivateSocketPath(const GetEnv& get_env, uid_t uid);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_PATHS_H_
