// SPDX-License-Identifier: Apache-2.0
//
// Which last-level cache each CPU of this machine belongs to, as the sample schedulers number them:
// 0, 1, ... in the order of each LLC's lowest CPU. Any thread.

#ifndef BPF_LLC_MAP_H_
#define BPF_LLC_MAP_H_

#include <string>
#include <vector>

namespace ktstr::bpf {

// Index: CPU number below `max_cpus`; value: LLC number. Read from
// SYSFS_ROOT/devices/system/cpu/cpuN/cache, the highest cache level there is; CPUs that show no
// caches (QEMU without a cache model) share LLC 0. Numbers past `max_llcs` wrap around, so that
// every value is below it.
std::vector<unsigned> ReadLlcMap(const std::string& sysfs_root, int max_cpus, unsigned max_llcs);

}  // namespace ktstr::bpf

#endif  // BPF_LLC_MAP_H_
