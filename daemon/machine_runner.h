// SPDX-License-Identifier: Apache-2.0
//
// From a kernel and a bundle to observations: decides how a machine is started (cold, from a
// snapshot, or once cold to have a snapshot), starts ktstr-vm, and tries the next way when a
// snapshot is of no use. A snapshot never decides what a run says, only when it begins. While a
// warm run is under way, the machine of the next one is restored ahead.
//
// Any thread, one run each; the parts it uses outlive it and are safe for any thread.

#ifndef KTSTR_DAEMON_MACHINE_RUNNER_H_
#define KTSTR_DAEMON_MACHINE_RUNNER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/fd.h"
#include "cache/kernel_cache.h"
#include "daemon/boot_images.h"
#include "daemon/engine_probe.h"
#include "daemon/prepared_vms.h"
#include "daemon/run_executor.h"
#include "daemon/snapshots.h"
#include "daemon/vm_child.h"

namespace ktstr::daemon {

class MachineRunner {
 public:
  struct Options {
    std::string vm_program;  // ktstr-vm
    std::string qemu_path;   // As configured.
  };
  MachineRunner(Options options, BootImages* boot, Snapshots* snapshots, PreparedVms* prepared)
      : options_(std::move(options)), boot_(boot), snapshots_(snapshots), prepared_(prepared) {}

  struct Outcome {
    std::vector<v1::Observation> observations;
    v1::Timings::Start start = v1::Timings::BOOT;
    absl::Duration before_engine;  // Until the first ktstr-vm was started.
  };
  // `engine_why`: why this engine, for people.
  absl::StatusOr<Outcome> Run(const RunJob& job, const cache::ResolvedKernel& kernel,
                              v1::Engine engine, const std::string& engine_why,
                              const base::UniqueFd& bundle, RunReporter& reporter,
                              const VmListener& listener);

 private:
  struct Machine;  // Files and VmStart.
  absl::StatusOr<std::shared_ptr<const Machine>> MakeMachine(const RunJob& job,
                                                             const cache::ResolvedKernel& kernel,
                                                             v1::Engine engine,
                                                             const base::UniqueFd& bundle);
  // Fills in what a warm start needs. An engine that does not say what it is starts cold, and says
  // then why it does not start.
  absl::Status PlanWarmStart(uint64_t bundle_bytes, Machine* machine);
  PreparedVms::Starter Restorer(std::shared_ptr<const Machine> machine,
                                Snapshots::Handle snapshot) const;

  const Options options_;
  BootImages* const boot_;
  Snapshots* const snapshots_;
  PreparedVms* const prepared_;
  EngineProbe probe_;
};

// Absolute path of QEMU. FailedPrecondition with the install line when there is none.
absl::StatusOr<std::string> FindQemu(const std::string& configured);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_MACHINE_RUNNER_H_
