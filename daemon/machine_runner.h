// SPDX-License-Identifier: Apache-2.0
//
// From a kernel and a bundle to observations: decides how a machine starts (cold, from a snapshot,
// or once cold to take a snapshot; with the scheduler attached already, or once to attach it),
// starts ktstr-vm, and tries the next way when a snapshot is unusable. A snapshot changes when a
// run begins, never its verdict. During a warm run PreparedVms restores the machine of the next one
// ahead.
//
// Any thread, one run each; the parts it uses outlive it and are safe for any thread.

#ifndef KTSTR_DAEMON_MACHINE_RUNNER_H_
#define KTSTR_DAEMON_MACHINE_RUNNER_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
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

// What an attached snapshot depends on besides its machine, one line per fact; `attach`: the plan
// that it is made with. Never equal for two users: the snapshot holds the files of one.
std::string AttachedIdentity(uid_t uid, const v1::RunSpec& spec, const v1::GuestPlan& attach);

class MachineRunner {
 public:
  struct Options {
    std::string vm_program;  // ktstr-vm
    // What each engine runs from, as configured.
    std::map<v1::Engine, std::string> engine_paths;
  };
  MachineRunner(Options options, BootImages* boot, Snapshots* snapshots, PreparedVms* prepared)
      : options_(std::move(options)), boot_(boot), snapshots_(snapshots), prepared_(prepared) {}

  struct Bundles {
    base::UniqueFd whole;  // The run's plan, with all files.
    uint64_t bytes = 0;    // Of it.
    std::string content;   // BundleContent() of it.
    // For a start from an attached snapshot.
    struct Attached {
      std::string identity;   // AttachedIdentity()
      std::string label;      // For people.
      base::UniqueFd attach;  // The plan that attaches, with all files.
      base::UniqueFd plan;    // The run's plan alone.
    };
    std::optional<Attached> attached;  // Unset: not wanted.
  };
  struct Outcome {
    std::vector<v1::Observation> observations;
    v1::Timings::Start start = v1::Timings::BOOT;
    absl::Duration before_engine;  // Until the first ktstr-vm was started.
    // ExecutionInputs() of these observations; empty: not known. A run that the guest itself keeps
    // from the start that it asks for, by its scheduler's end, has the inputs of that start.
    std::string inputs;
    bool as_asked = true;  // The host kept it from no start.
  };
  // `engine_why`: the reason for this engine, for people.
  absl::StatusOr<Outcome> Run(const RunJob& job, const cache::ResolvedKernel& kernel,
                              v1::Engine engine, const std::string& engine_why,
                              const Bundles& bundles, RunReporter& reporter,
                              const VmListener& listener);
  // Outcome::inputs of the same run, when the host keeps it from no start; empty: not known. Needs
  // no bundle's descriptor.
  absl::StatusOr<std::string> Inputs(const RunJob& job, const cache::ResolvedKernel& kernel,
                                     v1::Engine engine, const Bundles& bundles);

 private:
  struct Machine;  // Files and VmStart.
  struct Course;   // One call of Run().
  absl::StatusOr<std::shared_ptr<const Machine>> MakeMachine(const RunJob& job,
                                                             const cache::ResolvedKernel& kernel,
                                                             v1::Engine engine,
                                                             uint64_t bundle_bytes);
  // Plans a machine that has, or will have, a snapshot. False when it can have none: an engine that
  // does not report its identity starts cold, and that start reports the failure.
  absl::StatusOr<bool> PlanWarmStart(vmm::LaunchRequest request, Machine* machine);
  // Adds what `plan` makes of the machine; nothing when the engine or the kernel has no identity.
  absl::Status Identify(const v1::LaunchPlan& plan, Machine* machine);
  static v1::Timings::Start AskedStart(const Machine& machine, const Bundles& bundles);
  static std::string InputsOf(const Machine& machine, const Bundles& bundles,
                              v1::Timings::Start start, const v1::VmRun& run);
  // Finds the attached snapshot, or makes it; the course goes on without where neither is possible.
  void Attach(Course* course);
  void MakeAttached(Course* course);
  // Runs to the end; false when another way has to be tried.
  bool RunOnce(Course* course);
  // The name of a machine that waits with this snapshot restored: it runs in the VM process of the
  // build that started it.
  std::string PreparedName(const std::string& identity) const;
  void NoteUnkept(Course* course, const std::string& identity);
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
