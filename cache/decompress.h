// SPDX-License-Identifier: Apache-2.0
//
// Streaming decompression of kernels and packages. The input is untrusted: memory is capped, and
// ReadAll caps the output. One thread per object.

#ifndef KTSTR_CACHE_DECOMPRESS_H_
#define KTSTR_CACHE_DECOMPRESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "cache/byte_source.h"

namespace ktstr::cache {

enum class Compression { kNone, kGzip, kXz, kZstd, kLz4Legacy };

// By the magic number at the start of `data`; kNone for any other data.
Compression CompressionOf(std::string_view data);
const char* CompressionName(Compression compression);

// Reads the first stream in `input` and ignores what follows it, such as the size after a kernel's
// payload. Errors: DataLoss for damaged or cut data and for zstd with a window above 128 MiB,
// ResourceExhausted for xz that needs more than 256 MiB of memory. `input` outlives the result.
// kNone passes bytes on unchanged.
absl::StatusOr<std::unique_ptr<ByteSource>> Decompress(Compression compression, ByteSource* input);

// The whole content of `source`; ResourceExhausted above `max_bytes`.
absl::StatusOr<std::string> ReadAll(ByteSource* source, uint64_t max_bytes);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_DECOMPRESS_H_
