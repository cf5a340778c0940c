// SPDX-License-Identifier: Apache-2.0
//
// Reads BTF (Documentation/bpf/btf.rst) of an untrusted image. Pure; any thread.

#ifndef KTSTR_CACHE_BTF_H_
#define KTSTR_CACHE_BTF_H_

#include <string_view>

#include "absl/status/statusor.h"

namespace ktstr::cache {

// Whether `btf`, the content of a .BTF section, defines a struct of that name. DataLoss with the
// reason for damaged BTF, and for an unknown kind, whose size is unknown too.
absl::StatusOr<bool> BtfHasStruct(std::string_view btf, std::string_view name);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_BTF_H_
