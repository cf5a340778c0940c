// SPDX-License-Identifier: Apache-2.0
//
// The boot image (initramfs): the agent as /init, the kernel's configuration where libbpf looks for
// it, and mount points. A function of agent, kernel release and configuration. Any thread.

#ifndef KTSTR_VMM_BOOT_IMAGE_H_
#define KTSTR_VMM_BOOT_IMAGE_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace ktstr::vmm {

// `config_text` goes to /boot/config-`kernel_release`; no such file when it is empty. NotFound
// names `agent_path`.
absl::StatusOr<base::UniqueFd> MakeBootImage(const std::string& agent_path,
                                             const std::string& kernel_release,
                                             const std::string& config_text);

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_BOOT_IMAGE_H_
