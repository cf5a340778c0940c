// SPDX-License-Identifier: Apache-2.0
//
// Other CPUs must stand still by themselves when the agent rings Ready or Done. The emulator stops
// the ringing CPU at that very instruction, but it may run the others a little longer, by host
// time; then two equal runs would differ from there on. A CPU that idles has nothing to run. One
// thread.

#ifndef KTSTR_GUEST_QUIET_H_
#define KTSTR_GUEST_QUIET_H_

#include <string>
#include <string_view>

namespace ktstr::guest {

// Value of "procs_running" in the text of /proc/stat; -1 when it is not there.
int RunningTasks(std::string_view proc_stat);

// Sleeps in steps of 10 ms until the caller is the only task that runs (`proc_stat`: "/proc/stat"),
// at most 1 s, then a last millisecond, so that the caller goes on just after a wake-up. False when
// others still ran.
bool WaitUntilQuiet(const std::string& proc_stat);

// Takes all CPUs but CPU 0 offline, below `cpus` ("/sys/devices/system/cpu"); how many have gone.
// For the last doorbell: while the ringing CPU is being stopped, the emulator may find all CPUs
// idle, skip to the next timer and let it run, or not, by host time. A CPU that is offline has no
// timer. A kernel that keeps its CPUs is no error.
int TakeOthersOffline(const std::string& cpus);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_QUIET_H_
