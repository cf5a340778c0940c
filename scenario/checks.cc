// SPDX-License-Identifier: Apache-2.0

#include "scenario/checks.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/string_view.h"
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

bool IsStricter(const Check& check) {
  return check.strict_value.has_value() && check.strict_value != check.default_value;
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

void SetStrict(Checks* checks) {
  for (const Check& check : kChecks) {
    if (!IsStricter(check) || IsSet(*checks, check.number)) continue;
    const FieldDescriptor* field = FieldOf(check.number);
    const google::protobuf::Reflection* reflection = checks->GetReflection();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection->SetBool(checks, field, *check.strict_value != 0);
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        reflection->SetUInt32(checks, field, static_cast<uint32_t>(*check.strict_value));
        break;
      default:
        reflection->SetDouble(checks, field, *check.strict_value);
    }
  }
}

std::string StrictText() {
  std::vector<std::string> parts;
  for (const Check& check : kChecks) {
    if (IsStricter(check))
      parts.push_back(
          absl::StrCat(base::ToAbsl(check.field), " ", ValueText(check, check.strict_value)));
  }
  return absl::StrJoin(parts, ", ");
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
