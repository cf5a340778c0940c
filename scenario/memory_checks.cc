// SPDX-License-Identifier: Apache-2.0
//
// The guest's memory is used up: a fault of the scheduler when it is what the kernel killed once it
// was enabled, else of the machine's size.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scenario/facts.h"

namespace ktstr::scenario {

void AddMemoryFindings(const Facts& facts, std::vector<Candidate>* candidates) {
  if (facts.out_of_memory.empty()) return;
  // The first one is the cause of the others.
  const Seen<v1::OutOfMemory>& first = facts.out_of_memory.front();
  const size_t others = facts.out_of_memory.size() - 1;
  const bool scheduler = first->scheduler();
  Candidate candidate = MakeCause(
      FindingKind::kOutOfMemory,
      absl::StrCat("the guest ran out of memory",
                   first->during_steps() ? " during the workload" : "", ": its kernel killed ",
                   OneLine(first->process()), " (", scheduler ? "the scheduler under test, " : "",
                   first->resident_bytes() >> 20, " MiB in memory)",
                   others == 0 ? "" : absl::StrCat(" and ", others, " more"), "; the guest has ",
                   first->total_bytes() >> 20, " MiB. memory_mb (`--memory-mb`) gives it more"),
      first.order);
  if (scheduler && facts.enabled) candidate.verdict = v1::FAIL;
  if (scheduler) candidate.finding.set_where("scheduler");
  candidate.finding.set_observed(
      absl::StrCat("killed: ", scheduler ? "the scheduler" : OneLine(first->process())));
  candidates->push_back(std::move(candidate));
}

}  // namespace ktstr::scenario
