// SPDX-License-Identifier: Apache-2.0
//
// /sys/kernel/sched_ext, under a root argument. One thread.

#ifndef KTSTR_GUEST_SCHED_EXT_H_
#define KTSTR_GUEST_SCHED_EXT_H_

#include <optional>
#include <string>
#include <string_view>

namespace ktstr::guest {

struct SchedExtState {
  std::string state;  // "enabled", "disabled", …; empty when the kernel has no sched_ext.
  std::string ops;    // Name of the loaded scheduler; empty when none.
  bool enabled() const { return state == "enabled" && !ops.empty(); }
  bool operator==(const SchedExtState&) const = default;
};

// `root`: "/sys/kernel/sched_ext".
SchedExtState ReadSchedExtState(const std::string& root);

// Whether the loaded scheduler schedules all normal tasks; nullopt when the kernel does not report
// it.
std::optional<bool> ReadSwitchAll(const std::string& root);

// Whether a task is in the sched_ext class, by the text of its /proc/PID/sched; nullopt when the
// kernel does not report it.
std::optional<bool> InExtClass(std::string_view proc_sched);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_SCHED_EXT_H_
