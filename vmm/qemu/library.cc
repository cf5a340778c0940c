// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/library.h"

#include <string_view>

#include "base/file.h"
#include "base/sha256.h"
#include "base/status_macros.h"

// KTSTR_TURNS_LIBRARY: the shared object, named by the build.
asm(".pushsection .rodata\n"
    ".balign 16\n"
    "ktstr_turns_begin: .incbin \"" KTSTR_TURNS_LIBRARY
    "\"\n"
    "ktstr_turns_end:\n"
    ".globl ktstr_turns_begin, ktstr_turns_end\n"
    ".popsection\n");

extern "C" const char ktstr_turns_begin[];
extern "C" const char ktstr_turns_end[];

namespace ktstr::vmm::qemu {

namespace {

std::string_view Bytes() {
  return {ktstr_turns_begin, static_cast<size_t>(ktstr_turns_end - ktstr_turns_begin)};
}

}  // namespace

std::string LibraryDigest() { return base::Sha256Hex(Bytes()); }

absl::StatusOr<base::UniqueFd> TurnsLibrary() {
  const std::string_view bytes = Bytes();
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd memfd, base::MakeMemfd("ktstr-turns", 0));
  KTSTR_RETURN_IF_ERROR(base::WriteAll(memfd.get(), bytes, "library of QEMU's turns"));
  KTSTR_RETURN_IF_ERROR(base::SealMemfd(memfd.get(), "library of QEMU's turns"));
  return memfd;
}

}  // namespace ktstr::vmm::qemu
