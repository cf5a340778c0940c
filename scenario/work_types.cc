// SPDX-License-Identifier: Apache-2.0

#include "scenario/work_types.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace ktstr::scenario {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr uint32_t kMaxPhaseMs = 60'000;
constexpr WorkField kBurstyFields[] = {
    {"burst_ms", 50, 1, kMaxPhaseMs},
    {"sleep_ms", 100, 1, kMaxPhaseMs},
};

constexpr WorkType kWorkTypes[] = {
    {v1::Work::kSpinWaitFieldNumber, "spin_wait", "SpinWait", 1, {}, "computes without pause"},
    {v1::Work::kBurstyFieldNumber, "bursty", "Bursty", 1, kBurstyFields,
     "computes for burst_ms, sleeps for sleep_ms, repeats"},
};

// The message of the type that `work` sets, and that message's field `name`.
std::pair<const Message*, const FieldDescriptor*> Find(const v1::Work& work,
                                                       std::string_view name) {
  const FieldDescriptor* type = v1::Work::descriptor()->FindFieldByNumber(work.type_case());
  KTSTR_CHECK(type != nullptr) << "work without a type";
  const Message& message = work.GetReflection()->GetMessage(work, type);
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(std::string(name));
  KTSTR_CHECK(field != nullptr) << type->name() << " has no field " << name;
  return {&message, field};
}

}  // namespace

absl::Span<const WorkType> WorkTypes() { return kWorkTypes; }

const WorkType* WorkTypeOf(const v1::Work& work) {
  for (const WorkType& type : kWorkTypes) {
    if (type.number == work.type_case()) return &type;
  }
  return nullptr;
}

bool IsSet(const v1::Work& work, const WorkField& field) {
  const auto [message, descriptor] = Find(work, field.name);
  return message->GetReflection()->HasField(*message, descriptor);
}

uint32_t WorkValue(const v1::Work& work, const WorkField& field) {
  const auto [message, descriptor] = Find(work, field.name);
  const google::protobuf::Reflection* reflection = message->GetReflection();
  return reflection->HasField(*message, descriptor) ? reflection->GetUInt32(*message, descriptor)
                                                    : field.default_value;
}

uint32_t WorkValue(const v1::Work& work, std::string_view name) {
  const WorkType* type = WorkTypeOf(work);
  KTSTR_CHECK(type != nullptr) << "work without a type";
  for (const WorkField& field : type->fields) {
    if (field.name == name) return WorkValue(work, field);
  }
  KTSTR_CHECK(false) << type->name << " has no field " << name;
  return 0;
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
  int works = 0;
  for (int step = 0; step < scenario.step_size(); ++step) {
    for (const v1::Cgroup& cgroup : scenario.step(step).cgroup()) {
      for (const v1::Work& work : cgroup.work()) {
        const WorkType* type = WorkTypeOf(work);
        const DeclaredWorker worker = {.cgroup = cgroup.name(),
                                       .work_type = type == nullptr ? "" : type->name,
                                       .nice = work.nice(),
                                       .step = step,
                                       .work = works++};
        for (uint32_t i = 0; i < work.workers() && workers.size() < kMaxWorkers; ++i)
          workers.push_back(worker);
      }
    }
  }
  return workers;
}

}  // namespace ktstr::scenario
