// SPDX-License-Identifier: Apache-2.0
//
// QEMU's software emulation (TCG) in virtual time as an engine. Any thread.

#ifndef KTSTR_VMM_QEMU_ENGINE_H_
#define KTSTR_VMM_QEMU_ENGINE_H_

#include "vmm/engine.h"

namespace ktstr::vmm::qemu {

// The pointer stays valid.
const Engine* TcgEngine();

}  // namespace ktstr::vmm::qemu

#endif  // KTSTR_VMM_QEMU_ENGINE_H_
