// SPDX-License-Identifier: Apache-2.0
//
// Checks everything of a RunSpec that needs no look at the host: limits, names, references. Pure. A
// spec that passes is safe to store, to plan and to name files after.

#ifndef KTSTR_DAEMON_SPEC_CHECK_H_
#define KTSTR_DAEMON_SPEC_CHECK_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ktstr/v1/run.pb.h"
#include "scenario/limits.h"

namespace ktstr::daemon {

// Of a bundle: the contents of all files, and the headers of as many files and directories as there
// can be.
inline constexpr uint64_t kMaxArchiveBytes =
    scenario::LimitOf("RunSpec.files", "bytes together").max + (uint64_t{64} << 20);

// InvalidArgument names the field and what is wrong with it. Limits: scenario/limits.h.
absl::Status CheckRunSpec(const v1::RunSpec& spec);

// What the files of a checked spec really have, by blob: InvalidArgument when a file's size is
// another one, or when all have more than their limit together.
absl::Status CheckFileSizes(const v1::RunSpec& spec, const std::map<std::string, uint64_t>& sizes);

// The time limit of a checked spec, its default filled in.
uint32_t TimeoutMs(const v1::RunSpec& spec);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_SPEC_CHECK_H_
