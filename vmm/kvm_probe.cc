// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm_probe.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "base/file.h"

namespace ktstr::vmm {

absl::Status CheckKvm(const std::string& dev_path) {
  absl::StatusOr<base::UniqueFd> device = base::Open(dev_path, O_RDWR);
  if (absl::IsNotFound(device.status())) {
    return absl::NotFoundError(absl::StrCat(
        dev_path, " not found. KVM requires:\n", "  - Linux kernel with KVM support (CONFIG_KVM)\n",
        "  - Access to ", dev_path, " (check permissions or add user to 'kvm' group)\n",
        "  - Hardware virtualization enabled in BIOS (VT-x/AMD-V)\n",
        "Without it, software emulation runs the same scenario: --engine tcg"));
  }
  if (absl::IsPermissionDenied(device.status())) {
    return absl::PermissionDeniedError(
        absl::StrCat(dev_path, ": permission denied. Add your user to the 'kvm' group:\n",
                     "  sudo usermod -aG kvm $USER\n", "  then log out and back in."));
  }
  if (!device.ok()) return device.status();
  const int version = ioctl(device->get(), KVM_GET_API_VERSION, 0);
  if (version != KVM_API_VERSION) {
    return absl::FailedPreconditionError(
        absl::StrCat(dev_path, " is not KVM (KVM_GET_API_VERSION returns ", version, " instead of ",
                     KVM_API_VERSION, "). Use software emulation: --engine tcg"));
  }
  return absl::OkStatus();
}

}  // namespace ktstr::vmm
