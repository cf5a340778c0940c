// SPDX-License-Identifier: Apache-2.0
//
// Every check that a scenario can set, in one table: the field of `Checks`, its default, range and
// finding. Validator, evaluation and `list checks` read it; tests compare docs and proto comments
// with it. Any thread.
//
// To add a check: the field in scenario.proto, a row here, a row in docs/scenarios.md, and the code
// that judges it.

#ifndef KTSTR_SCENARIO_CHECKS_H_
#define KTSTR_SCENARIO_CHECKS_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/finding_kinds.h"

namespace ktstr::scenario {

// Values are numbers in `unit`; a switch has 0 and 1. No value: the check is off.
struct Check {
  int number;              // Of the field in Checks.
  std::string_view field;  // "max_gap_ms"
  FindingKind kind;
  bool is_switch;
  std::string_view unit;  // As messages print it after the value: "ms", "%".
  std::optional<double> default_value;
  std::optional<double> strict_value;  // What `--strict` sets.
  double low, high;                    // Allowed values, except of a switch.
  std::string_view fails_when;
};

absl::Span<const Check> CheckTable();
// `number`: Checks::k...FieldNumber.
const Check& CheckOf(int number);
// The value that the scenario sets, else the default; no value when the check is off.
std::optional<double> ValueOf(const v1::Checks& checks, int number);
bool IsOn(const v1::Checks& checks, int number);
// Whether the scenario sets it.
bool IsSet(const v1::Checks& checks, int number);
// Sets each check that is not set and has a strict value other than its default.
void SetStrict(v1::Checks* checks);
// "max_gap_ms 2000, max_spread_pct 15": what SetStrict can set.
std::string StrictText();
// "true", "3000", "off".
std::string ValueText(const Check& check, std::optional<double> value);
// "1 to 3600000"; "" for a switch.
std::string RangeText(const Check& check);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_CHECKS_H_
