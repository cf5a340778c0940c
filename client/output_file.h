// SPDX-License-Identifier: Apache-2.0
//
// Files and directories that the user named for results (`--junit`, `-o`). Any thread.

#ifndef KTSTR_CLIENT_OUTPUT_FILE_H_
#define KTSTR_CLIENT_OUTPUT_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ktstr::client {

// Checks before a run that its result can be written there, so that no run is in vain. Changes
// nothing. `flag` begins the message. An empty path is OK: no file is wanted.
absl::Status CheckOutputFile(absl::string_view flag, const std::string& path);
// The same of a directory, which may be missing with some of its parents.
absl::Status CheckOutputDirectory(absl::string_view flag, const std::string& path);

// Replaces a regular file as a whole, or makes it; on any error the old file stays. Follows
// symbolic links. Writes to anything else (a pipe, /dev/stdout, /dev/null) without replacing it.
// Modes follow the umask. FailedPrecondition on a full disk (exit code 69, not 75).
absl::Status WriteOutputFile(const std::string& path, absl::string_view data);

// Turns the status of a full disk into FailedPrecondition with the remedy; returns any other as is.
absl::Status OutputError(const absl::Status& status);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_OUTPUT_FILE_H_
