// SPDX-License-Identifier: Apache-2.0
//
// Temporary files without a name. Any thread.

#ifndef KTSTR_BASE_UNNAMED_FILE_H_
#define KTSTR_BASE_UNNAMED_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::base {

// A file in `dir` for reading and writing (0600), which disappears with its last descriptor. On
// file systems without O_TMPFILE (NFS, overlayfs of older kernels) it has a name for a moment.
// Errors name the path.
absl::StatusOr<UniqueFd> MakeUnnamedFile(const std::string& dir);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_UNNAMED_FILE_H_
