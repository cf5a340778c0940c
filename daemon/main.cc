// SPDX-License-Identifier: Apache-2.0
//
// ktstrd: the daemon that runs tests of schedulers in virtual machines. See main_loop.h.
#include "daemon/main_loop.h"

int main(int argc, char** argv) {
  return ktstr::daemon::RunDaemon(std::vector<std::string>(argv + 1, argv + argc));
}
