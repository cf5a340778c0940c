// SPDX-License-Identifier: Apache-2.0
//
// Kernel options that a scheduler reads through libbpf (`extern … __kconfig`), for the finding of
// one that does not load on a kernel without its configuration. libbpf itself tells only EINVAL,
// and many schedulers hide even its warning.

#ifndef KTSTR_GUEST_KERNEL_CONFIG_H_
#define KTSTR_GUEST_KERNEL_CONFIG_H_

#include <cstddef>
#include <string>
#include <vector>

namespace ktstr::guest {

inline constexpr size_t kMaxOptionNames = 16;

// Whether the kernel's configuration is where libbpf looks for it (bpf_object__read_kconfig_file):
// ROOT/boot/config-RELEASE or ROOT/proc/config.gz.
bool HasKernelConfig(const std::string& root = "");

// Names of options ("CONFIG_HZ") in the BPF objects that the program at `path` has in it, in their
// order, each once, at most kMaxOptionNames. Empty for a program that cannot be read.
std::vector<std::string> OptionNames(const std::string& path);

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_KERNEL_CONFIG_H_
