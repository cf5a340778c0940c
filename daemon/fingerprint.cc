// SPDX-License-Identifier: Apache-2.0
#include "daemon/fingerprint.h"

#include <fcntl.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "scenario/evaluate.h"
#include "scenario/record.h"
#include "vmm/engine.h"

namespace ktstr::daemon {
namespace {

// Raise it when what a fingerprint covers changes.
constexpr int kFingerprintFormat = 1;

// Ends to which the guest comes by itself. Its agent's reports are complete at DONE.
bool EndedByItself(v1::VmEnd::Cause cause) {
  switch (cause) {
    case v1::VmEnd::DONE:
    case v1::VmEnd::PANIC:
    case v1::VmEnd::GUEST_POWERED_OFF:
    case v1::VmEnd::GUEST_RESET:
    case v1::VmEnd::GUEST_HUNG:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string BundleContent(const v1::RunSpec& spec, const v1::GuestPlan& plan) {
  std::vector<std::string> files;
  for (const v1::FileRef& file : spec.files()) {
    files.push_back(absl::StrCat("file ", absl::CEscape(file.guest_path()), " ", file.sha256(),
                                 file.executable() ? " executable\n" : "\n"));
  }
  std::sort(files.begin(), files.end());
  return absl::StrCat(absl::StrJoin(files, ""), "plan ", base::Sha256Hex(plan.SerializeAsString()),
                      "\n");
}

std::string ExecutionInputs(const Execution& execution) {
  v1::VmRun run = execution.run;
  run.clear_run_id();
  run.clear_timeout_ms();
  run.clear_rewind();
  return absl::StrCat(execution.machine, "start ", v1::Timings::Start_Name(execution.start), "\n",
                      execution.attached, execution.bundle, "run ",
                      absl::BytesToHexString(run.SerializeAsString()), "\n");
}

absl::StatusOr<std::string> ProgramIdentity(const std::string& path) {
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, base::Open(path, O_RDONLY));
  return vmm::FileIdentity({path, std::move(fd)});
}

absl::StatusOr<std::string> ProgramsIdentity(const std::string& vm_program) {
  KTSTR_ASSIGN_OR_RETURN(const std::string own, ProgramIdentity("/proc/self/exe"));
  KTSTR_ASSIGN_OR_RETURN(const std::string vm, ProgramIdentity(vm_program));
  return absl::StrCat("daemon ", own, "\nvm process ", vm, "\n");
}

std::string Fingerprint(const std::string& execution, const std::string& programs,
                        const v1::RunSpec& spec) {
  return base::Sha256Hex(absl::StrCat("fingerprint ", kFingerprintFormat, "\n", programs, execution,
                                      "scenario ", scenario::ScenarioDigest(spec.scenario()),
                                      "\nconfirm ", spec.confirm() ? 1 : 0, "\n"));
}

bool IsExact(const std::vector<v1::Observation>& observations) {
  bool ended = false;
  bool stepped = false;
  for (const v1::Observation& seen : observations) {
    if (seen.channel_stats().full_waits() > 0) return false;
    stepped = stepped || seen.has_step_mark();
    if (!seen.has_vm_end()) continue;
    const v1::VmEnd& end = seen.vm_end();
    if (!EndedByItself(end.cause()) || end.turns().empty() ||
        end.turns() == scenario::kUnboundedTurns)
      return false;
    // A guest that does not reach its last doorbell is ended by the host's time, and one that hangs
    // before its first step when the host happens to look.
    if (end.cause() == v1::VmEnd::DONE && (end.guest_digest().empty() || !end.detail().empty()))
      return false;
    if (end.cause() == v1::VmEnd::GUEST_HUNG && !stepped) return false;
    ended = true;
  }
  return ended;
}

}  // namespace ktstr::daemon
