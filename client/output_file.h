// SPDX-License-Identifier: Apache-2.0
//
// Files and directories that the user named for results (`--junit`, `-o`). Any thread.

#ifndef KTSTR_CLIENT_OUTPUT_FILE_H_
#define KTSTR_CLIENT_OUTPUT_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ktstr::client {

// Before a run: whether its result could be written there, so that nobody waits for one that
// cannot. Nothing is made or changed. `flag` begins the message. Empty path: OK, nothing was asked
// for.
absl::Status CheckOutputFile(absl::string_view flag, const std::string& path);
// The same of a directory, which may be missing with some of its parents.
absl::Status CheckOutputDirectory(absl::string_view flag, const std::string& path);

// A regular file, or none yet: replaced as a whole, on any error the old one stands; of a symbolic
// link its target. Anything else (a pipe, /dev/stdout, /dev/null) is written to and stays what it
// is. Modes follow the umask. FailedPrecondition on a full disk: something is missing, not
// contended.
absl::Status WriteOutputFile(const std::string& path, absl::string_view data);

// Of a status about such a file: a full disk as FailedPrecondition, with what to do.
absl::Status OutputError(const absl::Status& status);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_OUTPUT_FILE_H_
