// SPDX-License-Identifier: Apache-2.0
//
// The kernel in a Debian package, without dpkg. The file is untrusted: nothing is written to disk,
// paths are only compared, sizes are capped. Used by KernelCache on import. Any thread.

#ifndef KTSTR_CACHE_DEB_H_
#define KTSTR_CACHE_DEB_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ktstr::cache {

struct DebKernel {
  std::string package;       // From its control file: "linux-image-6.18.15+deb13-cloud-amd64"
  std::string version;       // "6.18.15-1~bpo13+1"
  std::string architecture;  // "amd64"
  std::string image_path;    // boot/vmlinuz-* or usr/lib/modules/*/vmlinuz; empty: none.
  std::string image;
  std::string
      config_release;  // Of boot/config-RELEASE or usr/lib/modules/RELEASE/config; empty: none.
  std::string config;
};

// Reads `fd` from its current offset, streaming. Either of image and config may be missing, as
// Debian splits them over linux-binary-* and linux-base-*: it is the caller that says what it
// needs. Errors (with `name`): InvalidArgument for what is not a Debian package, for two kernels in
// one package and for a path that leaves the root; DataLoss when it is damaged or cut short;
// ResourceExhausted when its image is larger than `max_image`.
absl::StatusOr<DebKernel> ReadDeb(int fd, std::string_view name,
                                  uint64_t max_image = uint64_t{256} << 20);
absl::StatusOr<DebKernel> ReadDebFromMemory(std::string_view data, std::string_view name,
                                            uint64_t max_image = uint64_t{256} << 20);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_DEB_H_
