// SPDX-License-Identifier: Apache-2.0
//
// turns.c as a file that QEMU can load. Any thread.

#ifndef KTSTR_VMM_QEMU_TURNS_H_
#define KTSTR_VMM_QEMU_TURNS_H_

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::vmm::qemu {

// A sealed memfd with the shared object, which is part of this program.
absl::StatusOr<base::UniqueFd> TurnsLibrary();

}  // namespace ktstr::vmm::qemu

#endif  // KTSTR_VMM_QEMU_TURNS_H_
