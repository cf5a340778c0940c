// SPDX-License-Identifier: Apache-2.0
//
// The program ktstrd without `main`: arguments in, exit code out.

#ifndef KTSTR_DAEMON_MAIN_LOOP_H_
#define KTSTR_DAEMON_MAIN_LOOP_H_

#include <string>
#include <vector>

namespace ktstr::daemon {

// Runs the daemon until SIGTERM, SIGINT or idleness. Writes one line to --ready-fd: "ready",
// "running" (another daemon serves the socket), "elsewhere: SOCKET" (another one uses the cache
// directory), or "error: TEXT". Exit codes: 0, 64 wrong arguments or configuration, 69 something
// needed is missing, 70 else. Call it on the main thread before any other thread exists: it blocks
// signals for all of them.
int RunDaemon(const std::vector<std::string>& args);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_MAIN_LOOP_H_
