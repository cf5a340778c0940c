// SPDX-License-Identifier: Apache-2.0
//
// Operations of the agent that failed, and whose fault that is: a callback of an enabled scheduler
// can refuse them, and so can a guest that has run out of memory or tasks.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "scenario/facts.h"

namespace ktstr::scenario {
namespace {

using v1::OperationFailed;

// Below these the guest itself may be the cause.
constexpr uint64_t kMemoryFloor = uint64_t{16} << 20;
constexpr uint32_t kTasksFloor = 64;

const char* CallbackOf(OperationFailed::Operation operation) {
  switch (operation) {
    case OperationFailed::FORK:
      return "ops.init_task";
    case OperationFailed::CGROUP_CREATE:
      return "ops.cgroup_init";
    case OperationFailed::CGROUP_MOVE:
      return "ops.cgroup_prep_move";
    default:
      return nullptr;
  }
}

bool NothingLeft(const OperationFailed& failed) {
  return failed.free_memory_bytes() < kMemoryFloor ||
         (failed.max_tasks() != 0 && failed.tasks() + uint64_t{kTasksFloor} > failed.max_tasks());
}

}  // namespace

void AddOperationFindings(const v1::Scenario& scenario, const Facts& facts,
                          std::vector<Candidate>* candidates) {
  for (const Seen<OperationFailed>& failed : facts.failed_operations) {
    const char* callback = CallbackOf(failed->operation());
    const std::string message = OneLine(failed->message());
    const bool scheduler = scenario.has_scheduler() && facts.enabled &&
                           failed->scheduler_enabled() && callback != nullptr &&
                           !NothingLeft(*failed.fact);
    if (!scheduler) {
      candidates->push_back(
          MakeCause(FindingKind::kHarness,
                    absl::StrCat("the guest agent failed: ", message, "; the guest has ",
                                 failed->free_memory_bytes() >> 20, " MiB of free memory and ",
                                 failed->tasks(), " tasks"),
                    failed.order));
    } else {
      candidates->push_back(
          MakeCause(FindingKind::kOperationFailed,
                    absl::StrCat(message, "; scheduler ",
                                 OneLine(base::Basename(scenario.scheduler().name())),
                                 " was enabled, and its ", callback, " can refuse this"),
                    failed.order));
      candidates->back().finding.set_where("scheduler");
      candidates->back().finding.set_observed(message);
    }
    candidates->back().may_follow = true;
  }
}

}  // namespace ktstr::scenario
