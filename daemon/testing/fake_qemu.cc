// SPDX-License-Identifier: Apache-2.0
//
// Says which emulator it is, and is none: what the daemon asks before it plans a warm start.
#include <cstdio>

int main() {
  std::puts("QEMU emulator version 7.2.0 (fake)");
  return 0;
}
