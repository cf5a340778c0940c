// SPDX-License-Identifier: Apache-2.0
//
// Puts the files KTSTR_BPF_OBJECT and KTSTR_BPF_OBJECT_LATEST (two builds of a .bpf.c, named by the
// build) into this program. Exactly one source of a program includes it. Used instead of a bpftool
// skeleton: skeletons tie bpftool's version to libbpf's.

#ifndef BPF_EMBED_OBJECT_H_
#define BPF_EMBED_OBJECT_H_

#include <string_view>

asm(".pushsection .rodata\n"
    ".balign 16\n"
    "ktstr_bpf_object_begin: .incbin \"" KTSTR_BPF_OBJECT
    "\"\n"
    "ktstr_bpf_object_end:\n"
    ".balign 16\n"
    "ktstr_bpf_object_latest_begin: .incbin \"" KTSTR_BPF_OBJECT_LATEST
    "\"\n"
    "ktstr_bpf_object_latest_end:\n"
    ".globl ktstr_bpf_object_begin, ktstr_bpf_object_end\n"
    ".globl ktstr_bpf_object_latest_begin, ktstr_bpf_object_latest_end\n"
    ".popsection\n");

extern "C" const char ktstr_bpf_object_begin[];
extern "C" const char ktstr_bpf_object_end[];
extern "C" const char ktstr_bpf_object_latest_begin[];
extern "C" const char ktstr_bpf_object_latest_end[];

namespace ktstr::bpf {

// For every kernel.
inline std::string_view EmbeddedObject() { return {ktstr_bpf_object_begin, ktstr_bpf_object_end}; }

// For the latest kernels.
inline std::string_view EmbeddedLatestObject() {
  return {ktstr_bpf_object_latest_begin, ktstr_bpf_object_latest_end};
}

}  // namespace ktstr::bpf

#endif  // BPF_EMBED_OBJECT_H_
