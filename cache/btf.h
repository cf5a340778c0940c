// SPDX-License-Identifier: Apache-2.0
//
// A look into BTF (Documentation/bpf/btf.rst) from an untrusted image. Any thread.

#ifndef KTSTR_CACHE_BTF_H_
#define KTSTR_CACHE_BTF_H_

#include <string_view>

#include "absl/status/statusor.h"

namespace ktstr::cache {

// Whether `btf`, the content of a .BTF section, defines a struct of that name. DataLoss for damaged
// BTF, with what is wrong; a kind that this code does not know is an error too, as its size is
// unknown.
absl::StatusOr<bool> BtfHasStruct(std::string_view btf, std::string_view name);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_BTF_H_
