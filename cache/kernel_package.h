// SPDX-License-Identifier: Apache-2.0
//
// The kernel in a distribution's package, without the distribution's tools: Debian (.deb), RPM
// (.rpm) and pacman (.pkg.tar.*). The file is untrusted: nothing is written to disk, paths are only
// compared, sizes are capped. Used by KernelCache on import. Any thread.

#ifndef KTSTR_CACHE_KERNEL_PACKAGE_H_
#define KTSTR_CACHE_KERNEL_PACKAGE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "cache/byte_source.h"

namespace ktstr::cache {

struct KernelPackage {
  std::string format;        // "deb", "rpm", "pacman"
  std::string package;       // "linux-image-6.18.15+deb13-cloud-amd64", "kernel-core", "linux"
  std::string version;       // "6.18.15-1~bpo13+1"
  std::string architecture;  // "amd64", "x86_64"
  std::string image_path;    // boot/vmlinuz-* or usr/lib/modules/*/vmlinuz; empty: none.
  std::string image;
  // Of boot/config-RELEASE or usr/lib/modules/RELEASE/config; empty: none.
  std::string config_release;
  std::string config;

  // Its architecture is x86-64, or it is for all.
  bool ForX86() const;
};

// Reads `file` from its first byte, streaming. Either of image and config may be missing, as Debian
// splits them over linux-binary-* and linux-base-*: the caller decides what it needs. Errors (with
// `name`): InvalidArgument for what is none of these packages, for two kernels in one package and
// for a path that leaves the root; DataLoss when it is damaged or cut short; ResourceExhausted when
// its image is larger than `max_image`.
absl::StatusOr<KernelPackage> ReadKernelPackage(ByteSource* file, std::string_view name,
                                                uint64_t max_image = uint64_t{256} << 20);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_PACKAGE_H_
