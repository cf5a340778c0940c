// SPDX-License-Identifier: Apache-2.0
#include "bpf/llc_map.h"

#include <unistd.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace ktstr::bpf {
namespace {

// The first number of the file (its whole value, or the lowest CPU of a list); -1 if there is none.
int FirstNumber(const std::string& path) {
  FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return -1;
  int number = -1;
  if (std::fscanf(file, "%d", &number) != 1) number = -1;
  std::fclose(file);
  return number;
}

// The lowest CPU that shares the last-level cache with the CPU of this directory; -1 without cache
// information.
int LlcLeader(const std::string& cpu_dir) {
  int best_level = -1;
  int leader = -1;
  for (int index = 0;; ++index) {
    const std::string cache = cpu_dir + "/cache/index" + std::to_string(index);
    const int level = FirstNumber(cache + "/level");
    if (level < 0) return leader;
    if (level <= best_level) continue;
    best_level = level;
    leader = FirstNumber(cache + "/shared_cpu_list");
  }
}

}  // namespace

std::vector<unsigned> ReadLlcMap(const std::string& sysfs_root, int max_cpus, unsigned max_llcs) {
  std::vector<unsigned> llc_of_cpu;
  std::map<int, unsigned> llc_of_leader;
  for (int cpu = 0; cpu < max_cpus; ++cpu) {
    const std::string dir = sysfs_root + "/devices/system/cpu/cpu" + std::to_string(cpu);
    if (access(dir.c_str(), F_OK) != 0) break;
    const int leader = LlcLeader(dir);
    if (leader < 0) {
      llc_of_cpu.push_back(0);
      continue;
    }
    const unsigned next = static_cast<unsigned>(llc_of_leader.size()) % max_llcs;
    llc_of_cpu.push_back(llc_of_leader.try_emplace(leader, next).first->second);
  }
  return llc_of_cpu;
}

}  // namespace ktstr::bpf
