// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/registers.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/string_view.h"

namespace ktstr::vmm::qemu {

std::vector<v1::VcpuState> ParseRegisters(std::string_view text) {
  std::vector<v1::VcpuState> vcpus;
  v1::VcpuState vcpu;
  bool known = false;
  for (absl::string_view line : absl::StrSplit(base::ToAbsl(text), '\n')) {
    line = absl::StripAsciiWhitespace(line);
    uint32_t cpu = 0;
    if (absl::ConsumePrefix(&line, "CPU#")) {
      known = absl::SimpleAtoi(line, &cpu);
      vcpu.Clear();
      vcpu.set_cpu(cpu);
    } else if (known &&
               (absl::ConsumePrefix(&line, "RIP=") || absl::ConsumePrefix(&line, "EIP="))) {
      uint64_t rip = 0;
      if (!absl::SimpleHexAtoi(line.substr(0, line.find(' ')), &rip)) continue;
      vcpu.set_rip(rip);
      vcpu.set_user_space(absl::StrContains(line, " CPL=3 "));
      vcpu.set_halted(absl::EndsWith(line, " HLT=1"));
      vcpus.push_back(vcpu);
      known = false;
    }
  }
  return vcpus;
}

}  // namespace ktstr::vmm::qemu
