// SPDX-License-Identifier: Apache-2.0
//
// A stream of bytes that its user pulls piece by piece. A decompressor reads one and is one. One
// thread.

#ifndef KTSTR_CACHE_BYTE_SOURCE_H_
#define KTSTR_CACHE_BYTE_SOURCE_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace ktstr::cache {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next piece, valid until the next call; empty at the end and in all later calls.
  virtual absl::StatusOr<std::string_view> Next() = 0;
};

// Bytes in memory, which outlive the object.
class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::string_view data) : data_(data) {}
  absl::StatusOr<std::string_view> Next() override { return std::exchange(data_, {}); }

 private:
  std::string_view data_;
};

// `first`, then the content of `rest`, which outlives the object.
class JoinedSource : public ByteSource {
 public:
  JoinedSource(std::string first, ByteSource* rest) : first_(std::move(first)), rest_(rest) {}
  absl::StatusOr<std::string_view> Next() override {
    if (!std::exchange(begun_, true) && !first_.empty()) return first_;
    return rest_->Next();
  }

 private:
  const std::string first_;
  ByteSource* const rest_;
  bool begun_ = false;
};

// A file from its current offset on. `fd` outlives the object.
class FdSource : public ByteSource {
 public:
  FdSource(int fd, std::string_view name) : fd_(fd), name_(name), buffer_(size_t{256} << 10, 0) {}
  absl::StatusOr<std::string_view> Next() override;

 private:
  const int fd_;
  const std::string name_;
  std::string buffer_;
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_BYTE_SOURCE_H_
