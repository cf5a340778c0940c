// SPDX-License-Identifier: Apache-2.0
//
// Resolves a scenario to the literals that the guest agent executes. Has the defaults of a
// scenario's fields. Pure; any thread.

#ifndef KTSTR_SCENARIO_PLAN_H_
#define KTSTR_SCENARIO_PLAN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "ktstr/v1/guest.pb.h"
#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/limits.h"
#include "scenario/topology.h"

namespace ktstr::scenario {

inline constexpr uint32_t kDefaultDurationMs = 2000;
inline constexpr uint32_t kMaxDurationMs = LimitOf("Scenario.duration_ms").max;
// In virtual time one busy vCPU of 4 executes 125 million instructions a second: what the verifier
// does in a second on a real CPU takes a minute, and two for scx_lavd. So what ends an attach that
// does not get on is that its process stands still.
inline constexpr uint32_t kDefaultAttachTimeoutMs = 1'800'000;
// A process that stands still for so long before it is enabled does not attach, ms.
inline constexpr uint32_t kStillTimeoutMs = 60'000;
// The slowest speed at which real schedulers get the verdicts that they get at four times that
// speed (docs/registry-schedulers.md).
inline constexpr uint32_t kDefaultVcpuMips = 62;
inline constexpr uint32_t kDefaultRestartTimeoutMs = 10'000;
inline constexpr uint32_t kStopTimeoutMs = 10'000;

// For a scenario without problems (validate.h). `scheduler_guest_path`: the program's path in the
// bundle; InvalidArgument unless it is empty exactly when the scenario names no scheduler.
absl::StatusOr<v1::GuestPlan> MakeGuestPlan(const v1::Scenario& scenario,
                                            std::string_view scheduler_guest_path);

// The part of a plan with a scheduler that an attached snapshot is made with: an `attach_only`
// plan, equal for all runs that may start from one snapshot.
v1::GuestPlan MakeAttachPlan(const v1::GuestPlan& plan);

// The limit that the host sets, in guest ms from READY. It is longer than GuestPlan.overrun_ms, so
// that an agent that runs ends the run by itself.
uint64_t GuestLimitMs(const v1::Scenario& scenario);
// Guest ms until which the kernel must enable the scheduler; 0 without a scheduler.
uint32_t AttachTimeoutMs(const v1::Scenario& scenario);
// 0 where a restart is an end, or there is no scheduler.
uint32_t RestartTimeoutMs(const v1::Scenario& scenario);
// "12.3s of CPU time and 7 BPF programs, the newest mine_enqueue".
std::string AttachText(const v1::AttachProgress& progress);
// Guest memory in MiB; the daemon may raise it (vmm/launch_plan.h).
uint32_t MemoryMb(const v1::Scenario& scenario, const Topology& topology);
uint64_t SeedOf(const v1::Scenario& scenario);
uint32_t VcpuMips(const v1::Scenario& scenario);
uint32_t DurationMs(const v1::Scenario& scenario);
// Longest pause of a worker that the checks allow.
uint32_t MaxGapMs(const v1::Scenario& scenario);
// How long a worker may take to report. Longer than MaxGapMs: a worker that lives and does not
// report in this time has paused for longer than allowed.
uint32_t ReportTimeoutMs(const v1::Scenario& scenario);
// Field names of the work types in use, each once, in order of appearance, joined by "+".
std::string WorkTypes(const v1::Scenario& scenario);

struct Holds {
  std::vector<uint64_t> ns;  // One per step; invalid when there are problems.
  std::vector<std::pair<int, std::string>> problems;  // Index of the step, message.
};
// Lengths of the steps.
Holds ResolveHolds(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_PLAN_H_
