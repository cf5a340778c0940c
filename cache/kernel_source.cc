// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_source.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "scenario/limits.h"

namespace ktstr::cache {

// One line for each cache/sources/NAME.cc, here and in the table.
const KernelSource& DebSource();

namespace {

const KernelSource* const* Sources(size_t* count) {
  static const KernelSource* const kSources[] = {
      &DebSource(),
  };
  *count = std::size(kSources);
  return kSources;
}

}  // namespace

absl::StatusOr<const KernelSource*> FindKernelSource(const std::string& text) {
  KTSTR_RETURN_IF_ERROR(
      scenario::CheckLimit(scenario::LimitOf("FetchKernelRequest.source"), "source", text.size()));
  size_t count;
  const KernelSource* const* sources = Sources(&count);
  const std::string prefix = text.substr(0, text.find(':'));
  std::vector<std::string> usages;
  for (size_t i = 0; i < count; ++i) {
    if (prefix.size() + 1 < text.size() && prefix == sources[i]->prefix()) return sources[i];
    usages.push_back(absl::StrCat(sources[i]->usage(), ", as ", sources[i]->example()));
  }
  return absl::InvalidArgumentError(absl::StrCat("'", base::SanitizeUtf8(text),
                                                 "' is no source of kernels. Write ",
                                                 absl::StrJoin(usages, "; or ")));
}

std::string WithoutPrefix(const KernelSource& source, const std::string& text) {
  return text.substr(std::string(source.prefix()).size() + 1);
}

}  // namespace ktstr::cache
