// SPDX-License-Identifier: Apache-2.0
//
// Under virtual time a run is a function of its inputs; their digest is its fingerprint
// (RunRecord.fingerprint). An earlier run of the same user with the same fingerprint is the same
// run: `run --reuse` returns its record. Inputs are text, one line per fact. What the host or the
// user's command line adds (limits in host time, names of files, the project's commit) is no input.
//
// Pure, but for those of programs; any thread.

#ifndef KTSTR_DAEMON_FINGERPRINT_H_
#define KTSTR_DAEMON_FINGERPRINT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ktstr/v1/guest.pb.h"
#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/vm.pb.h"

namespace ktstr::daemon {

// What a bundle holds: the spec's files by content, and a plan.
std::string BundleContent(const v1::RunSpec& spec, const v1::GuestPlan& plan);

// What a machine executes.
struct Execution {
  std::string machine;  // vmm::SnapshotIdentity(), also of a machine that boots.
  v1::Timings::Start start = v1::Timings::START_UNSPECIFIED;
  std::string attached;  // AttachedIdentity(); with ATTACHED only.
  std::string bundle;    // BundleContent()
  v1::VmRun run;
};
std::string ExecutionInputs(const Execution& execution);

// Of a program's file; another build is another text.
absl::StatusOr<std::string> ProgramIdentity(const std::string& path);

// This program, which makes plans and judges, and the VM process; another build is another text.
absl::StatusOr<std::string> ProgramsIdentity(const std::string& vm_program);

// SHA-256, lower-case hex. `execution`: ExecutionInputs(); `programs`: ProgramsIdentity().
std::string Fingerprint(const std::string& execution, const std::string& programs,
                        const v1::RunSpec& spec);

// Whether the machine executed what its inputs determine, to an end that they determine: bounded
// turns, no stop in the middle, not ended by the host or the user.
bool IsExact(const std::vector<v1::Observation>& observations);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_FINGERPRINT_H_
