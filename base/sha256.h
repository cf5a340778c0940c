// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 (FIPS 180-4, by OpenSSL) as lower-case hex: names of blobs, digests of files and of guest
// memory. Any thread.

#ifndef KTSTR_BASE_SHA256_H_
#define KTSTR_BASE_SHA256_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ktstr::base {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(const void* data, size_t size);
  void Update(std::string_view data) { Update(data.data(), data.size()); }
  std::string FinishHex();  // Once, as the last call.

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string Sha256Hex(std::string_view data);
// Of the whole file, by pread(2): the file offset does not move.
absl::StatusOr<std::string> Sha256HexOfFd(int fd, std::string_view name);
bool IsSha256Hex(std::string_view text);

}  // namespace ktstr::base

#endif  // KTSTR_BASE_SHA256_H_
