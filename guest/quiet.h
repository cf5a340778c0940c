// SPDX-License-Identifier: Apache-2.0
//
// The other CPUs must be idle when the agent rings Ready or Done. The emulator stops the ringing
// CPU at that instruction, but it may run the others a little longer, by host time, and two equal
// runs would differ from there on. An idle CPU has nothing to run. One thread.

#ifndef KTSTR_GUEST_QUIET_H_
#define KTSTR_GUEST_QUIET_H_

#include <string>
#include <string_view>

namespace ktstr::guest {

// Value of "procs_running" in the text of /proc/stat; -1 when it is not there.
int RunningTasks(std::string_view proc_stat);

// Sleeps in steps of 10 ms until the caller is the only task that runs (`proc_stat`: "/proc/stat"),
// at most 1 s, then another 1.37 ms, so that no timer of another CPU is due when the caller goes
// on. False when others still ran.
bool WaitUntilQuiet(const std::string& proc_stat);

// Takes all CPUs but CPU 0 offline, below `cpus` ("/sys/devices/system/cpu"); returns how many
// went. For the last doorbell: while the emulator stops the ringing CPU, it may find all CPUs idle
// and run the next timer, or not, by host time. A CPU that is offline has no timer. A CPU that
// stays online is no error.
int TakeOthersOffline(const std::string& cpus);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_QUIET_H_
