// SPDX-License-Identifier: Apache-2.0
//
// Parses what the monitor command "info registers -a" prints. A pure function. Any thread.

#ifndef KTSTR_VMM_QEMU_REGISTERS_H_
#define KTSTR_VMM_QEMU_REGISTERS_H_

#include <string_view>
#include <vector>

#include "ktstr/v1/observation.pb.h"

namespace ktstr::vmm::qemu {

// One per "CPU#N" with a RIP or EIP, in the order of the text. A vCPU that the kernel has not
// started yet is in 16-bit mode and has an EIP.
std::vector<v1::VcpuState> ParseRegisters(std::string_view text);

}  // namespace ktstr::vmm::qemu

#endif  // KTSTR_VMM_QEMU_REGISTERS_H_
