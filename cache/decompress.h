// SPDX-License-Identifier: Apache-2.0
//
// Streaming decompression of what kernels and packages come in. The input is untrusted: output and
// memory are capped. One thread per object.

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

// By magic number at the start of `data`; kNone when it is none of them.
Compression CompressionOf(std::string_view data);
const char* CompressionName(Compression compression);

// Reads the first stream in `input` and ignores what follows it (a kernel's payload is followed by
// its size). Errors: DataLoss for damaged or cut short data, ResourceExhausted when it needs more
// than 256 MiB of memory. `input` must outlive the result. kNone passes bytes on.
absl::StatusOr<std::unique_ptr<ByteSource>> Decompress(Compression compression, ByteSource* input);

// Everything of `source`; ResourceExhausted when that is more than `max_bytes`.
absl::StatusOr<std::string> ReadAll(ByteSource* source, uint64_t max_bytes);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_DECOMPRESS_H_
