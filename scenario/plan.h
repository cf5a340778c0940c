// SPDX-License-Identifier: Apache-2.0
//
// A scenario with everything resolved to literals: what the guest agent executes. Defaults of the
// model live here.

#ifndef KTSTR_SCENARIO_PLAN_H_
#define KTSTR_SCENARIO_PLAN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "ktstr/v1/guest.pb.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/topology.h"

namespace ktstr::scenario {

inline constexpr uint32_t kDefaultDurationMs = 2000;
inline constexpr uint32_t kMaxDurationMs = 3'600'000;
// In virtual time a busy vCPU is the slower the fewer there are: on 4, the verifier takes more than
// 10 s over scx_qmap.
inline constexpr uint32_t kDefaultAttachTimeoutMs = 60'000;
inline constexpr uint32_t kStopTimeoutMs = 10'000;

// For a scenario without problems (validate.h). `scheduler_guest_path`: the program's path in the
// bundle; InvalidArgument unless it is empty exactly when the scenario names no scheduler.
absl::StatusOr<v1::GuestPlan> MakeGuestPlan(const v1::Scenario& scenario,
                                            std::string_view scheduler_guest_path);

// Guest ms from the agent's being ready after which even a guest whose agent has given up by itself
// must be done. Longer than GuestPlan.overrun_ms.
uint64_t GuestLimitMs(const v1::Scenario& scenario);
// Guest ms within which the scheduler must be enabled; 0 without a scheduler.
uint32_t AttachTimeoutMs(const v1::Scenario& scenario);
// Guest memory in MiB before the boot image's needs.
uint32_t MemoryMb(const v1::Scenario& scenario, const Topology& topology);
uint64_t SeedOf(const v1::Scenario& scenario);
uint32_t DurationMs(const v1::Scenario& scenario);
// Longest pause that the checks allow.
uint32_t MaxGapMs(const v1::Scenario& scenario);
// How long a worker may take to report. Longer than the longest allowed pause, so that a worker
// that lives and says nothing was kept off its CPU for longer than is allowed.
uint32_t ReportTimeoutMs(const v1::Scenario& scenario);
// Field names of the work types in use, each once, in order of appearance, joined by "+".
std::string WorkTypes(const v1::Scenario& scenario);

struct Holds {
  std::vector<uint64_t> ns;  // One per step; meaningless when there are problems.
  std::vector<std::pair<int, std::string>> problems;  // Index of the step, message.
};
// Lengths of the steps.
Holds ResolveHolds(const v1::Scenario& scenario);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_PLAN_H_
