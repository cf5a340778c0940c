// SPDX-License-Identifier: Apache-2.0
//
// Digest of guest memory: SHA-256 over the 4 KiB pages that are not all zero, each preceded by its
// index in RAM (8 bytes, little endian). A hole and a page of zeros give the same digest, so it
// depends on what the guest sees and not on what the host has allocated. Holes cost nothing.
//
// Called while the guest stands still. One thread.

#ifndef KTSTR_VMM_DIGEST_H_
#define KTSTR_VMM_DIGEST_H_

#include <string>

#include "absl/status/statusor.h"
#include "vmm/guest_memory.h"

namespace ktstr::vmm {

// Lower-case hex.
absl::StatusOr<std::string> DigestOf(GuestMemory& memory);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_DIGEST_H_
