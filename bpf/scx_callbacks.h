// SPDX-License-Identifier: Apache-2.0
//
// Finds the BPF programs behind the callbacks of the sched_ext scheduler that is loaded, whichever
// process loaded it. Needs root.

#ifndef BPF_SCX_CALLBACKS_H_
#define BPF_SCX_CALLBACKS_H_

#include <cstdint>
#include <string>
#include <vector>

struct btf;

namespace ktstr::bpf {

struct Callback {
  uint32_t program = 0;  // id of the BPF program
  std::string function;  // its name in the scheduler's source, in full
};

// The programs of the callback `name` ("enqueue"): one for each loaded scheduler (a scheduler may
// have sub-schedulers). Empty when no scheduler has it. `types` is the kernel's BTF.
std::vector<Callback> FindCallbacks(const btf* types, const std::string& name);

// Whether sched_ext has a callback of that name.
bool IsCallback(const btf* types, const std::string& name);

}  // namespace ktstr::bpf

#endif  // BPF_SCX_CALLBACKS_H_
