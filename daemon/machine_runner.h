// SPDX-License-Identifier: Apache-2.0
//
// From a kernel and a bundle to observations: decides how a machine starts (cold, from a snapshot,
// or once cold to take a snapshot), starts ktstr-vm, and tries the next way when a snapshot is
// unusable. A snapshot changes when a run begins, never its verdict. During a warm run PreparedVms
// restores the machine of the next one ahead.
//
// Any thread, one run each; the parts it uses outlive it and are safe for any thread.

#ifndef KTSTR_DAEMON_MACHINE_RUNNER_H_
#define KTSTR_DAEMON_MACHINE_RUNNER_H_

#include <cstdint>
#include <map>
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
#include "vmm/launch_plan.h"

namespace ktstr::daemon {

class MachineRunner {
 public:
  struct Options {
    std::string vm_program;  // ktstr-vm
    // What each engine runs from, as configured.
    std::map<v1::Engine, std::string> engine_paths;
  };
  MachineRunner(Options options, BootImages* boot, Snapshots* snapshots, PreparedVms* prepared)
      : options_(std::move(options)), boot_(boot), snapshots_(snapshots), prepared_(prepared) {}

  struct Outcome {
    std::vector<v1::Observation> observations;
    v1::Timings::Start start = v1::Timings::BOOT;
    absl::Duration before_engine;  // Until the first ktstr-vm was started.
  };
  // `engine_why`: the reason for this engine, for people.
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
  // Plans a machine that has, or will have, a snapshot. False when it can have none: an engine that
  // does not report its identity starts cold, and that start reports the failure.
  absl::StatusOr<bool> PlanWarmStart(vmm::LaunchRequest request, Machine* machine);
  PreparedVms::Starter Restorer(std::shared_ptr<const Machine> machine,
                                Snapshots::Handle snapshot) const;

  const Options options_;
  BootImages* const boot_;
  Snapshots* const snapshots_;
  PreparedVms* const prepared_;
  EngineProbe probe_;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_MACHINE_RUNNER_H_
