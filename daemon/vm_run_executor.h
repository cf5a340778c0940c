// SPDX-License-Identifier: Apache-2.0
//
// Carries a run out in a virtual machine: kernel, bundle, boot image, ktstr-vm, judgement, record,
// sidecar. Any thread, one run each; the parts it uses outlive it and are safe for any thread.

#ifndef KTSTR_DAEMON_VM_RUN_EXECUTOR_H_
#define KTSTR_DAEMON_VM_RUN_EXECUTOR_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "cache/kernel_cache.h"
#include "daemon/boot_images.h"
#include "daemon/run_executor.h"
#include "daemon/user_blobs.h"

namespace ktstr::daemon {

// Name of the account, or "uid-N".
std::string UserName(uid_t uid);

// The engine that a spec gets. FailedPrecondition, with the remedy, when it cannot be had here.
struct EngineChoice {
  v1::Engine engine = v1::TCG;
  std::string why;
};
absl::StatusOr<EngineChoice> ChooseEngine(v1::Engine asked, const std::string& kvm_device);

// Absolute path of QEMU. FailedPrecondition with the install line when there is none.
absl::StatusOr<std::string> FindQemu(const std::string& configured);

class VmRunExecutor : public RunExecutor {
 public:
  struct Options {
    std::string vm_program;
    std::string qemu_path;
    std::string runs_root;
  };
  VmRunExecutor(Options options, cache::KernelCache* kernels, UserBlobs* blobs, BootImages* boot)
      : options_(std::move(options)), kernels_(kernels), blobs_(blobs), boot_(boot) {}

  RunOutcome Execute(const RunJob& job, RunReporter& reporter) override;
  RunOutcome Abandoned(const RunJob& job, const StopRequest& why) override;

 private:
  struct Course;
  absl::Status ResolveKernel(const RunJob& job, RunReporter& reporter, Course* course);
  absl::Status RunMachine(const RunJob& job, RunReporter& reporter, Course* course);
  absl::StatusOr<base::UniqueFd> MakeBundle(const RunJob& job);
  void WriteRecordFile(const RunJob& job, RunReporter& reporter, const Course& course,
                       const v1::RunRecord& record);

  const Options options_;
  cache::KernelCache* const kernels_;
  UserBlobs* const blobs_;
  BootImages* const boot_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_VM_RUN_EXECUTOR_H_
