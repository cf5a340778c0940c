// SPDX-License-Identifier: Apache-2.0

#include "scenario/work_types.h"

#include "absl/strings/str_cat.h"
#include "base/string_view.h"

namespace ktstr::scenario {
namespace {

constexpr WorkType kWorkTypes[] = {
    {"spin_wait", "SpinWait", 1, "computes without pause"},
    {"bursty", "Bursty", 1, "computes for burst_ms (50), sleeps for sleep_ms (100), repeats"},
};

}  // namespace

absl::Span<const WorkType> WorkTypes() { return kWorkTypes; }

const WorkType* WorkTypeOf(const v1::Work& work) {
  switch (work.type_case()) {
    case v1::Work::kSpinWait:
      return &kWorkTypes[0];
    case v1::Work::kBursty:
      return &kWorkTypes[1];
    case v1::Work::TYPE_NOT_SET:
      break;
  }
  return nullptr;
}

std::string WorkerCountProblem(const WorkType& type, uint32_t workers) {
  if (workers == 0)
    return absl::StrCat(base::ToAbsl(type.title), " requires at least ", type.group_size,
                        type.group_size == 1 ? " worker" : " workers", ", got 0");
  if (workers > kMaxWorkersPerGroup) {
    return absl::StrCat(base::ToAbsl(type.title), " allows at most ", kMaxWorkersPerGroup,
                        " workers, got ", workers);
  }
  if (workers % type.group_size != 0) {
    return absl::StrCat(base::ToAbsl(type.title), " requires num_workers divisible by ",
                        type.group_size, ", got ", workers);
  }
  return "";
}

std::vector<DeclaredWorker> DeclaredWorkers(const v1::Scenario& scenario) {
  std::vector<DeclaredWorker> workers;
  for (const v1::Step& step : scenario.step()) {
    for (const v1::Cgroup& cgroup : step.cgroup()) {
      for (const v1::Work& work : cgroup.work()) {
        const WorkType* type = WorkTypeOf(work);
        for (uint32_t i = 0; i < work.workers() && workers.size() < kMaxWorkers; ++i) {
          workers.push_back({cgroup.name(), type == nullptr ? std::string_view() : type->name});
        }
      }
    }
  }
  return workers;
}

}  // namespace ktstr::scenario
