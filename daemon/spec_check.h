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

// With room for the headers of the most files and directories that a spec can have.
inline constexpr uint64_t kMaxArchiveBytes =
    scenario::LimitOf("RunSpec.files", "bytes together").max + (uint64_t{64} << 20);

// InvalidArgument names the field and what is wrong with it. Limits: scenario/limits.h.
absl::Status CheckRunSpec(const v1::RunSpec& spec);

// `sizes`: the real size of each blob of a checked spec. InvalidArgument when the spec gives a file
// another size, or when all files together have more than their limit.
absl::Status CheckFileSizes(const v1::RunSpec& spec, const std::map<std::string, uint64_t>& sizes);

// The time limit of a checked spec, its default filled in.
uint32_t TimeoutMs(const v1::RunSpec& spec);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_SPEC_CHECK_H_
