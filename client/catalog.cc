// SPDX-License-Identifier: Apache-2.0
#include "client/catalog.h"

#include "absl/strings/str_cat.h"
#include "scenario/canned.h"
#include "scenario/topology.h"

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
  return {{"NAME", "FIELDS", "GROUP", "DESCRIPTION"},
          {"spin_wait", "", "1", "computes without pause"},
          {"bursty", "burst_ms 50, sleep_ms 100", "1", "computes, sleeps, repeats"}};
}

Rows CheckRows() {
  return {{"NAME", "DEFAULT", "STRICT", "FINDING", "FAILS WHEN"},
          {"not_starved", "true", "true", "STARVED", "a worker did no work"},
          {"max_gap_ms", "3000", "2000", "STUCK", "a worker's longest pause is longer"},
          {"max_spread_pct", "35", "15", "UNFAIR",
           "the off-CPU shares of a cgroup's workers lie further apart"},
          {"isolation", "false", "false", "ISOLATION", "a worker ran outside its cgroup's cpuset"}};
}

}  // namespace ktstr::client
