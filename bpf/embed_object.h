// SPDX-License-Identifier: Apache-2.0
//
// Puts the file KTSTR_BPF_OBJECT (a compiled .bpf.o, named by the build) into this program. To be
// included by exactly one source of a program. Used instead of a bpftool skeleton: skeletons tie
// bpftool's version to libbpf's.

#ifndef BPF_EMBED_OBJECT_H_
#define BPF_EMBED_OBJECT_H_

#include <string_view>

asm(".pushsection .rodata\n"
    ".balign 16\n"
    "ktstr_bpf_object_begin: .incbin \"" KTSTR_BPF_OBJECT
    "\"\n"
    "ktstr_bpf_object_end:\n"
    ".globl ktstr_bpf_object_begin, ktstr_bpf_object_end\n"
    ".popsection\n");

extern "C" const char ktstr_bpf_object_begin[];
extern "C" const char ktstr_bpf_object_end[];

namespace ktstr::bpf {

inline std::string_view EmbeddedObject() {
  return {ktstr_bpf_object_begin,
          static_cast<size_t>(ktstr_bpf_object_end - ktstr_bpf_object_begin)};
}

}  // namespace ktstr::bpf

#endif  // BPF_EMBED_OBJECT_H_
