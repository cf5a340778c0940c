// SPDX-License-Identifier: Apache-2.0
//
// Reads the kernel in a distribution's package without the distribution's tools: Debian (.deb), RPM
// (.rpm) and pacman (.pkg.tar.*). The file is untrusted: nothing goes to the disk, paths are only
// compared, sizes are capped. KernelCache uses it on import. Any thread.

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
  std::string image_path;    // boot/vmlinuz-* or (usr/)lib/modules/*/vmlinuz; empty: no image.
  std::string image;
  // RELEASE and content of boot/config-RELEASE or (usr/)lib/modules/RELEASE/config; empty: none.
  std::string config_release;
  std::string config;

  // Whether the package is for x86-64 or for all architectures.
  bool ForX86() const;
};

// Reads `file` from its first byte, as a stream. Image or configuration may be missing: Debian
// splits them into linux-binary-* and linux-base-*, and the caller decides what it needs. Errors
// (with `name`): InvalidArgument for other files, for two kernels in one package and for a path
// that leaves the root; DataLoss for a damaged or cut package; ResourceExhausted for an image above
// `max_image` bytes, and for a package that unpacks to more than 32 times that.
absl::StatusOr<KernelPackage> ReadKernelPackage(ByteSource* file, std::string_view name,
                                                uint64_t max_image = uint64_t{256} << 20);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_PACKAGE_H_
