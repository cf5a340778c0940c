// SPDX-License-Identifier: Apache-2.0
//
// What a kernel package (.deb) holds, as far as the client must know to send it: newer Debian
// kernels come in two packages, the image in one and its configuration in another. Read with
// libarchive, nothing is unpacked to disk. Any thread.

#ifndef KTSTR_CLIENT_KERNEL_PACKAGE_H_
#define KTSTR_CLIENT_KERNEL_PACKAGE_H_

#include <string>

#include "absl/status/statusor.h"

namespace ktstr::client {

struct KernelPackage {
  bool is_package = false;  // False: not a .deb at all (an image).
  bool has_image = false;
  std::string
      config;  // Text of boot/config-* or usr/lib/modules/*/config; empty when there is none.
};

absl::StatusOr<KernelPackage> InspectKernelPackage(const std::string& path);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_KERNEL_PACKAGE_H_
