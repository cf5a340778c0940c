// SPDX-License-Identifier: Apache-2.0
//
// What scenarios can be made of, as `list` shows it. Tables of text, the first row a heading,
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
