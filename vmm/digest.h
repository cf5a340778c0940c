// SPDX-License-Identifier: Apache-2.0
//
// Digest of guest memory: SHA-256 over a line "INDEX DIGEST\n" for each block of 4 MiB of RAM that
// holds something other than zeros, by ascending index (decimal); DIGEST is that of its pages
// (base/page_digest.h, with their index in RAM). A hole and a page of zeros give the same digest,
// so it depends on what the guest sees and not on what the host has allocated. Holes cost nothing.
//
// Called while the guest stands still. Two threads share the work: the user waits for it.

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
