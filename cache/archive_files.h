// SPDX-License-Identifier: Apache-2.0
//
// Reads the regular files of an archive, one after the other, with libarchive. The archive is
// untrusted: nothing goes to the disk, paths stay inside the root, and the numbers of files and
// bytes have caps. kernel_package.cc uses it. Any thread.

#ifndef KTSTR_CACHE_ARCHIVE_FILES_H_
#define KTSTR_CACHE_ARCHIVE_FILES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "cache/byte_source.h"

namespace ktstr::cache {

enum class ArchiveFormat { kAr, kTar, kCpio };

// `path` is relative, without "." and "..". `data` is valid during the call, which need not read it
// to its end.
using OnFile = std::function<absl::Status(const std::string& path, ByteSource* data)>;

// Calls `on_file` for each regular file. Errors: those of `archive` and of `on_file`;
// InvalidArgument for a path that leaves the root, DataLoss for a damaged or cut archive,
// ResourceExhausted above `max_bytes` bytes or 200,000 files.
absl::Status ReadArchive(ByteSource* archive, ArchiveFormat format, uint64_t max_bytes,
                         const OnFile& on_file);
// The same for an archive that may be packed by gzip, xz or zstd; `max_bytes` caps its unpacked
// size.
absl::Status ReadPackedArchive(ByteSource* packed, ArchiveFormat format, uint64_t max_bytes,
                               const OnFile& on_file);

// Whether a file that begins with `start` is an unpacked tar archive (POSIX or GNU).
bool IsTar(std::string_view start);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_ARCHIVE_FILES_H_
