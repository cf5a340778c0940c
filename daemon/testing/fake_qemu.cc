// SPDX-License-Identifier: Apache-2.0
//
// Prints the version of an emulator, which the daemon reads before it plans a warm start. Runs
// nothing.
#include <cstdio>

int main() {
  std::puts("QEMU emulator version 7.2.0 (fake)");
  return 0;
}
