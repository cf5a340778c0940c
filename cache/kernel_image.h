// SPDX-License-Identifier: Apache-2.0
//
// Reads a kernel image file: the uncompressed kernel, its identity and its abilities. The file is
// untrusted. KernelCache uses it on import. Pure; any thread.

#ifndef KTSTR_CACHE_KERNEL_IMAGE_H_
#define KTSTR_CACHE_KERNEL_IMAGE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ktstr::cache {

inline constexpr uint64_t kMaxVmlinuxBytes = uint64_t{512} << 20;

enum class FileKind {
  kDeb,  // ar archive
  kRpm,
  kPacked,   // Packed by gzip, xz, zstd or lz4, or a tar archive: a pacman package is both.
  kBzImage,  // x86 boot protocol
  kElf,
  kOther,
};
// By the content's first bytes.
FileKind FileKindOf(std::string_view data);
// "an empty file", "an HTML page", "a 64-bit Arm kernel image", ...: for messages on kOther.
std::string DescribeOther(std::string_view data);

struct KernelImage {
  std::string vmlinux;   // The uncompressed x86-64 ELF file.
  std::string btf;       // Its .BTF section; empty when it has none.
  std::string release;   // uname -r, "7.3.4+deb13-cloud-amd64".
  std::string version;   // "7.3.4", "7.4-rc2"
  std::string build_id;  // GNU build ID in hex; empty when it has none.
  bool sched_ext = false;
  const char* compression = "";  // "zstd", ... of the payload; "uncompressed" for an ELF file.
};

// Decodes a bzImage or an ELF file in memory. Errors, to which the caller adds the file's name:
// InvalidArgument for anything but an x86-64 Linux kernel, DataLoss for damaged or cut data,
// ResourceExhausted above `max_vmlinux` bytes, FailedPrecondition for a sound kernel that engines
// cannot enter (no PVH entry note).
absl::StatusOr<KernelImage> DecodeKernel(std::string_view file,
                                         uint64_t max_vmlinux = kMaxVmlinuxBytes);

// The leading "7.3.4" or "7.4-rc2" of a release; empty when it does not begin with one.
std::string VersionOfRelease(std::string_view release);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_IMAGE_H_
