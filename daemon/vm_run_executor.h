// SPDX-License-Identifier: Apache-2.0
//
// Executes a run in a virtual machine: kernel, bundle, machine (MachineRunner), judgement, record.
// Any thread, one run each; the parts it uses outlive it and are safe for any thread.

#ifndef KTSTR_DAEMON_VM_RUN_EXECUTOR_H_
#define KTSTR_DAEMON_VM_RUN_EXECUTOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "cache/kernel_cache.h"
#include "daemon/boot_images.h"
#include "daemon/machine_runner.h"
#include "daemon/run_executor.h"
#include "daemon/snapshots.h"
#include "daemon/user_blobs.h"

namespace ktstr::daemon {

class VmRunExecutor : public RunExecutor {
 public:
  VmRunExecutor(MachineRunner::Options machine_options, cache::KernelCache* kernels,
                UserBlobs* blobs, BootImages* boot, Snapshots* snapshots, PreparedVms* prepared)
      : kernels_(kernels),
        blobs_(blobs),
        vm_program_(machine_options.vm_program),
        machines_(std::move(machine_options), boot, snapshots, prepared) {}

  absl::StatusOr<std::unique_ptr<RunClaim>> Claim(uid_t uid, const v1::RunSpec& spec) override;
  RunOutcome Execute(const RunJob& job, RunReporter& reporter) override;
  RunOutcome Abandoned(const RunJob& job, const StopRequest& why) override;
  // RunRecord.fingerprint that Execute would give this run, when the host does not interfere; empty
  // where it gives none. Waits for nobody: Cancelled when it would have to.
  absl::StatusOr<std::string> FingerprintOf(uid_t uid, const v1::RunSpec& spec);

 private:
  struct Course;
  absl::Status ResolveKernel(const RunJob& job, RunReporter& reporter, Course* course);
  absl::Status RunMachine(const RunJob& job, const cache::ResolvedKernel& kernel,
                          RunReporter& reporter, Course* course);
  // Runs what confirms `judgement` (scenario/confirm.h) and returns the judgement after it.
  // `course` gets what the runs say; a stop that comes meanwhile takes the place of its
  // observations.
  v1::Judgement Confirm(const RunJob& job, const v1::Judgement& judgement, RunReporter& reporter,
                        Course* course);
  // `files`: also the descriptors.
  absl::StatusOr<MachineRunner::Bundles> MakeBundles(const RunJob& job, bool files);
  std::string Programs() const;  // ProgramsIdentity(); empty: not known.

  cache::KernelCache* const kernels_;
  UserBlobs* const blobs_;
  const std::string vm_program_;
  MachineRunner machines_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_VM_RUN_EXECUTOR_H_
