// SPDX-License-Identifier: Apache-2.0
//
// Digest of memory, or of a sparse file: the SHA-256 over the 4096-byte pages that are not all
// zero, in order; each page counts with its index (8 bytes, little endian) and its bytes. So a hole
// and a page of zeros are the same. One thread.

#ifndef KTSTR_BASE_PAGE_DIGEST_H_
#define KTSTR_BASE_PAGE_DIGEST_H_

#include <cstdint>
#include <string>

#include "base/sha256.h"

namespace ktstr::base {

class PageDigest {
 public:
  static constexpr uint64_t kPageSize = 4096;

  // Adds a page; indices ascend from call to call. `bytes` is below kPageSize only for the last
  // page of a file. True when the page counts: it is not all zero.
  bool Add(uint64_t index, const void* page, uint64_t bytes = kPageSize);
  std::string FinishHex() { return sha_.FinishHex(); }  // Once.

 private:
  Sha256 sha_;
};

}  // namespace ktstr::base

#endif  // KTSTR_BASE_PAGE_DIGEST_H_
