// SPDX-License-Identifier: Apache-2.0
//
// The types of work that a scenario can name, in one table: validator, plan and `list work-types`
// read it. Any thread.

#ifndef KTSTR_SCENARIO_WORK_TYPES_H_
#define KTSTR_SCENARIO_WORK_TYPES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/limits.h"

namespace ktstr::scenario {

// A number that a work type takes.
struct WorkField {
  std::string_view name;  // In the type's message: "burst_ms".
  uint32_t default_value, low, high;
};

struct WorkType {
  int number;              // Of the field in Work.
  std::string_view name;   // Field name in Work, and name in the plan: "spin_wait".
  std::string_view title;  // In messages: "SpinWait".
  uint32_t group_size;     // `workers` is a multiple of it.
  absl::Span<const WorkField> fields;
  std::string_view summary;  // One line for lists.
};

absl::Span<const WorkType> WorkTypes();
// The type of `work`; null when it sets none.
const WorkType* WorkTypeOf(const v1::Work& work);
// The value of `field`, or its default; `field` belongs to the type of `work`.
uint32_t WorkValue(const v1::Work& work, const WorkField& field);
// The same by name.
uint32_t WorkValue(const v1::Work& work, std::string_view field);
// Whether `work` sets it.
bool IsSet(const v1::Work& work, const WorkField& field);
// What is wrong with this number of workers ("PipeIo requires num_workers divisible by 2, got 3"),
// or "".
std::string WorkerCountProblem(const WorkType& type, uint32_t workers);

// A worker process that the scenario asks for.
struct DeclaredWorker {
  std::string cgroup;
  std::string_view work_type;  // Field name.
  int nice = 0;
  int step = 0;  // Index of the step that starts it.
  int work = 0;  // Index of its `work` in the whole scenario.
};
// In order of declaration, as reports number them; at most kMaxWorkers.
std::vector<DeclaredWorker> DeclaredWorkers(const v1::Scenario& scenario);

inline constexpr uint32_t kMaxWorkersPerGroup = LimitOf("Work.workers").max;
// Per scenario: bounds what the guest starts and what the host keeps.
inline constexpr uint32_t kMaxWorkers = LimitOf("Work.workers", "workers in all").max;

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_WORK_TYPES_H_
