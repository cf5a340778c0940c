// SPDX-License-Identifier: Apache-2.0
//
// The kinds of work that a scenario can name, in one table: parser, validator, plan and `list
// work-types` read it.

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

// A number that a type of work takes.
struct WorkField {
  std::string_view name;  // In the type's message: "burst_ms".
  uint32_t default_value, low, high;
};

struct WorkType {
  int number;              // Of the field in Work.
  std::string_view name;   // Field name in Work, and name in the plan: "spin_wait".
  std::string_view title;  // As messages say it: "SpinWait".
  uint32_t group_size;     // `workers` is a multiple of it.
  absl::Span<const WorkField> fields;
  std::string_view summary;  // One line for lists.
};

absl::Span<const WorkType> WorkTypes();
// The type that `work` sets; null when it sets none.
const WorkType* WorkTypeOf(const v1::Work& work);
// A number of `work`'s type, or its default. `field` is one of the type's.
uint32_t WorkValue(const v1::Work& work, const WorkField& field);
// The same by name.
uint32_t WorkValue(const v1::Work& work, std::string_view field);
// Whether `work` sets it.
bool IsSet(const v1::Work& work, const WorkField& field);
// What is wrong with this number of workers, or "": "PipeIo requires num_workers divisible by 2,
// got 3".
std::string WorkerCountProblem(const WorkType& type, uint32_t workers);

// A worker process that the scenario asks for.
struct DeclaredWorker {
  std::string cgroup;
  std::string_view work_type;  // Field name.
  int nice = 0;
  int step = 0;  // That starts it.
  int work = 0;  // Its `work`, counted over the whole scenario.
};
// In order of declaration: a worker's place is its index in reports. Cut off at kMaxWorkers.
std::vector<DeclaredWorker> DeclaredWorkers(const v1::Scenario& scenario);

inline constexpr uint32_t kMaxWorkersPerGroup = LimitOf("Work.workers").max;
// Of a scenario: bounds what the guest starts and what the host keeps.
inline constexpr uint32_t kMaxWorkers = LimitOf("Work.workers", "workers in all").max;

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_WORK_TYPES_H_
