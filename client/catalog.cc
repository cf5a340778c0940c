// SPDX-License-Identifier: Apache-2.0
#include "client/catalog.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/string_view.h"
#include "scenario/canned.h"
#include "scenario/checks.h"
#include "scenario/finding_kinds.h"
#include "scenario/topology.h"
#include "scenario/work_types.h"

namespace ktstr::client {

Rows ScenarioRows() {
  Rows rows = {{"NAME", "DESCRIPTION"}};
  for (const scenario::CannedScenario& canned : scenario::CannedScenarios()) {
    rows.push_back({std::string(canned.name), std::string(canned.description)});
  }
  return rows;
}

Rows PresetRows() {
  Rows rows = {{"NAME", "TOPOLOGY", "CPUS"}};
  for (const scenario::Preset& preset : scenario::Presets()) {
    rows.push_back(
        {std::string(preset.name), std::string(preset.label), absl::StrCat(preset.cpus)});
  }
  return rows;
}

Rows WorkTypeRows() {
  Rows rows = {{"NAME", "FIELDS", "GROUP", "DESCRIPTION"}};
  for (const scenario::WorkType& type : scenario::WorkTypes()) {
    std::vector<std::string> fields;
    for (const scenario::WorkField& field : type.fields)
      fields.push_back(absl::StrCat(base::ToAbsl(field.name), " ", field.default_value));
    rows.push_back({std::string(type.name), absl::StrJoin(fields, ", "),
                    absl::StrCat(type.group_size), std::string(type.summary)});
  }
  return rows;
}

Rows CheckRows() {
  Rows rows = {{"NAME", "DEFAULT", "STRICT", "FINDING", "FAILS WHEN"}};
  for (const scenario::Check& check : scenario::CheckTable()) {
    rows.push_back({std::string(check.field), scenario::ValueText(check, check.default_value),
                    scenario::ValueText(check, check.strict_value),
                    std::string(scenario::InfoOf(check.kind).token),
                    std::string(check.fails_when)});
  }
  return rows;
}

}  // namespace ktstr::client
