// SPDX-License-Identifier: Apache-2.0
//
// A stream of bytes that is pulled piece by piece: what a decompressor reads and what it is. One
// thread.

#ifndef KTSTR_CACHE_BYTE_SOURCE_H_
#define KTSTR_CACHE_BYTE_SOURCE_H_

#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace ktstr::cache {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next piece, valid until the next call; empty at the end, then and ever after.
  virtual absl::StatusOr<std::string_view> Next() = 0;
};

// Bytes in memory, which must outlive it.
class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::string_view data) : data_(data) {}
  absl::StatusOr<std::string_view> Next() override { return std::exchange(data_, {}); }

 private:
  std::string_view data_;
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_BYTE_SOURCE_H_
