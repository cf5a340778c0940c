// SPDX-License-Identifier: Apache-2.0
//
// What a scenario can consist of, as `list` shows it: tables of text with a heading as first row,
// made from the tables in scenario/. Any thread.

#ifndef KTSTR_CLIENT_CATALOG_H_
#define KTSTR_CLIENT_CATALOG_H_

#include <string>
#include <vector>

namespace ktstr::client {

using Rows = std::vector<std::vector<std::string>>;

Rows ScenarioRows();
Rows PresetRows();
Rows WorkTypeRows();
Rows CheckRows();

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_CATALOG_H_
