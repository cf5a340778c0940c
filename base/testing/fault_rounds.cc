// SPDX-License-Identifier: Apache-2.0
#include "base/testing/fault_rounds.h"

#include <iostream>

#include "absl/strings/str_cat.h"
#include "base/string_view.h"

namespace ktstr::base {

bool Harmless(Fault fault) { return fault == Fault::kInterrupted || fault == Fault::kShort; }

std::string Where(std::string_view path, Fault fault, uint64_t n) {
  return absl::StrCat(ToAbsl(path), ", ", FaultName(fault), " at step ", n);
}

void ReportSteps(std::string_view path, Fault fault, bool lasting, uint64_t steps) {
  std::cout << path << ", " << FaultName(fault) << (lasting ? " from there on" : "") << ": "
            << steps << " steps\n";
}

int EachError(std::string_view path, const std::function<bool(Fault, bool, uint64_t)>& round) {
  int struck = 0;
  for (const Fault fault : kErrorFaults) {
    for (const bool lasting : {false, true}) {
      if (lasting && Harmless(fault)) continue;
      uint64_t n = 1;
      while (round(fault, lasting, n)) ++n;
      struck += n > 1 ? 1 : 0;
      ReportSteps(path, fault, lasting, n - 1);
    }
  }
  return struck;
}

}  // namespace ktstr::base
