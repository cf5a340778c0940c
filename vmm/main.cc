// SPDX-License-Identifier: Apache-2.0
//
// ktstr-vm: started by ktstrd, never by hand. Descriptor 3 is the control socket.
#include "vmm/process.h"

int main() { return ktstr::vmm::RunVmProcess(ktstr::base::UniqueFd(3)); }
