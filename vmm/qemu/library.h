// SPDX-License-Identifier: Apache-2.0
//
// library/ as a file that QEMU can load. Any thread.

#ifndef KTSTR_VMM_QEMU_LIBRARY_H_
#define KTSTR_VMM_QEMU_LIBRARY_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::vmm::qemu {

// A sealed memfd with the shared object, which is part of this program.
absl::StatusOr<base::UniqueFd> TurnsLibrary();
// SHA-256 of the shared object, lower-case hex: what a guest executes depends on it.
std::string LibraryDigest();

}  // namespace ktstr::vmm::qemu

#endif  // KTSTR_VMM_QEMU_LIBRARY_H_
