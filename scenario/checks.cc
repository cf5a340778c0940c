// SPDX-License-Identifier: Apache-2.0

#include "scenario/checks.h"

#include "absl/strings/str_format.h"
#include "base/log.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "scenario/plan.h"

namespace ktstr::scenario {
namespace {

using google::protobuf::FieldDescriptor;
using v1::Checks;

// clang-format off
constexpr Check kChecks[] = {
    // number, field, kind, is_switch, unit, default, strict, low, high, fails_when
    {Checks::kNotStarvedFieldNumber, "not_starved", FindingKind::kStarved, true, "", 1, 1, 0, 1,
     "a worker did no work"},
    {Checks::kMaxGapMsFieldNumber, "max_gap_ms", FindingKind::kStuck, false, "ms", 3000, 2000, 1,
     kMaxDurationMs, "a worker did not run for longer, its own sleep not counted"},
    {Checks::kMaxSpreadPctFieldNumber, "max_spread_pct", FindingKind::kUnfair, false, "%", 35, 15,
     0, 100, "the off-CPU shares of the workers of one `work` differ by more percentage points"},
    {Checks::kIsolationFieldNumber, "isolation", FindingKind::kIsolation, true, "", 0, 0, 0, 1,
     "a worker ran outside its cgroup's cpuset"},
    {Checks::kMaxWeightErrorPctFieldNumber, "max_weight_error_pct", FindingKind::kWeight, false,
     "%", std::nullopt, std::nullopt, 0, 100,
     "a share of CPU time differs from the share by weight by more percentage points"},
    {Checks::kSchedulerStopFieldNumber, "scheduler_stop", FindingKind::kSchedulerStop, true, "", 1,
     1, 0, 1, "the scheduler did not end in order when it was told to stop"},
};
// clang-format on

const FieldDescriptor* FieldOf(int number) {
  return Checks::descriptor()->FindFieldByNumber(number);
}

}  // namespace

absl::Span<const Check> CheckTable() { return kChecks; }

const Check& CheckOf(int number) {
  for (const Check& check : kChecks) {
    if (check.number == number) return check;
  }
  KTSTR_CHECK(false) << "no check has field number " << number;
  return kChecks[0];
}

std::optional<double> ValueOf(const Checks& checks, int number) {
  if (!IsSet(checks, number)) return CheckOf(number).default_value;
  const google::protobuf::Reflection* reflection = checks.GetReflection();
  const FieldDescriptor* field = FieldOf(number);
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(checks, field) ? 1 : 0;
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->GetUInt32(checks, field);
    default:
      return reflection->GetDouble(checks, field);
  }
}

bool IsOn(const Checks& checks, int number) {
  const std::optional<double> value = ValueOf(checks, number);
  return value.has_value() && (!CheckOf(number).is_switch || *value != 0);
}

bool IsSet(const Checks& checks, int number) {
  return checks.GetReflection()->HasField(checks, FieldOf(number));
}

std::string ValueText(const Check& check, std::optional<double> value) {
  if (!value.has_value()) return "off";
  if (check.is_switch) return *value != 0 ? "true" : "false";
  return absl::StrFormat("%.10g", *value);
}

std::string RangeText(const Check& check) {
  if (check.is_switch) return "";
  return absl::StrFormat("%.10g to %.10g", check.low, check.high);
}

}  // namespace ktstr::scenario
