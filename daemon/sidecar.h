// SPDX-License-Identifier: Apache-2.0
//
// Run records as files: RUNS_ROOT/USER/{kernel}-{commit}/NAME.ktstr.json. Any thread, any process:
// writers of one directory take RUNS_ROOT/.locks/{kernel}-{commit}.lock.

#ifndef KTSTR_DAEMON_SIDECAR_H_
#define KTSTR_DAEMON_SIDECAR_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::daemon {

// "steady-scx_ktstr-1n1l4c1t-tcg-s1.ktstr.json". Runs of one variant (scenario, scheduler and its
// arguments, topology, engine, seed) share a name, so that a re-run replaces the record; other
// variants do not.
std::string SidecarName(const v1::Scenario& scenario, const v1::RunRecord& record);

// "{kernel}-{commit}": `release` is the kernel's uname -r.
std::string RunKey(const std::string& release, const std::string& project_commit);

// Writes atomically and returns the path. DeadlineExceeded with the lock's holders after
// `patience`.
absl::StatusOr<std::string> WriteSidecar(const std::string& runs_root, const std::string& user,
                                         const std::string& run_key, const v1::Scenario& scenario,
                                         const v1::RunRecord& record,
                                         absl::Duration patience = absl::Seconds(30));

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_SIDECAR_H_
