// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C (Castagnoli, RFC 3720 appendix B.4). Own table: Debian 12's Abseil has none, and the
// static agent needs it too.

#ifndef KTSTR_BASE_CRC32C_H_
#define KTSTR_BASE_CRC32C_H_

#include <cstddef>
#include <cstdint>

namespace ktstr::base {

// `crc`: the result of the call that this one continues; 0 to begin.
uint32_t Crc32c(const void* data, size_t size, uint32_t crc = 0);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_CRC32C_H_
