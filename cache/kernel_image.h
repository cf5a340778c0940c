// SPDX-License-Identifier: Apache-2.0
//
// What is in a kernel image file: the uncompressed kernel, what it is, what it can do. The file is
// untrusted. Used by KernelCache on import. Any thread.

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
// By content.
FileKind FileKindOf(std::string_view data);
// "an empty file", "an HTML page", "a 64-bit Arm kernel image", ...: for messages on kOther.
std::string DescribeOther(std::string_view data);

struct KernelImage {
  std::string vmlinux;   // The uncompressed x86-64 ELF, byte by byte as it was packed.
  std::string btf;       // Its .BTF section; empty when it has none.
  std::string release;   // uname -r, "7.3.4+deb13-cloud-amd64".
  std::string version;   // "7.3.4", "7.4-rc2"
  std::string build_id;  // GNU build ID in hex; empty when it has none.
  bool sched_ext = false;
  const char* compression = "";  // "zstd", ... of the payload; "uncompressed" for an ELF file.
};

// Of a bzImage or an ELF file in memory. Errors name no file, the caller does: InvalidArgument for
// what is no x86-64 Linux kernel, DataLoss for damaged or cut short data, ResourceExhausted beyond
// `max_vmlinux`, FailedPrecondition for a sound kernel that the engines cannot enter (no PVH entry
// note).
absl::StatusOr<KernelImage> DecodeKernel(std::string_view file,
                                         uint64_t max_vmlinux = kMaxVmlinuxBytes);

// The leading "7.3.4" or "7.4-rc2" of a release; empty when it does not begin with one.
std::string VersionOfRelease(std::string_view release);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_IMAGE_H_
