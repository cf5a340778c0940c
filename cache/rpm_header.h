// SPDX-License-Identifier: Apache-2.0
//
// Reads the front of an RPM package (rpm 4, "RPM v3/v4 package format"): its name, and where its
// packed cpio archive begins. The file is untrusted: every offset is checked, sizes are capped.
// kernel_package.cc uses it. One thread.
//
// clang-format off
//   +------+-----------+---------+--------+----------------------------+
//   | lead | signature | padding | header | payload: packed cpio       |
//   |  96  | a header  | to 8    |        | (gzip, xz, zstd)           |
//   +------+-----------+---------+--------+----------------------------+
//   a header: 8e ad e8 01, 4 reserved, entries, bytes of data (big endian, 32 bits);
//             16 bytes an entry: tag, type, offset into the data, count; then the data
// clang-format on

#ifndef KTSTR_CACHE_RPM_HEADER_H_
#define KTSTR_CACHE_RPM_HEADER_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "cache/byte_source.h"

namespace ktstr::cache {

inline constexpr std::string_view kRpmMagic = "\xed\xab\xee\xdb";

struct RpmHeader {
  std::string name;          // "kernel-core"
  std::string version;       // "6.19.4"
  std::string release;       // "100.fc43"
  std::string architecture;  // "x86_64"
};

class RpmReader {
 public:
  // `file` is at its first byte and outlives the object.
  explicit RpmReader(ByteSource* file) : rest_(file) {}
  // Once. DataLoss when the file is damaged or cut short, InvalidArgument for a payload that is
  // not cpio packed by gzip, xz or zstd.
  absl::StatusOr<RpmHeader> ReadHeader();
  // After ReadHeader: the payload.
  ByteSource* payload() { return &rest_; }

 private:
  // The rest of a source from which some bytes have been taken.
  class Rest : public ByteSource {
   public:
    explicit Rest(ByteSource* source) : source_(source) {}
    absl::StatusOr<std::string_view> Next() override;
    // Exactly `size` bytes, else DataLoss.
    absl::StatusOr<std::string> Take(size_t size);

   private:
    ByteSource* const source_;
    std::string_view piece_;
  };
  struct Section;
  absl::StatusOr<Section> ReadSection();

  Rest rest_;
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_RPM_HEADER_H_
