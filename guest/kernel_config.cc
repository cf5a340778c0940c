// SPDX-License-Identifier: Apache-2.0
//
// A BPF object names its options in the strings of its BTF, each between two NUL bytes, and the
// section ".kconfig" that holds them too (libbpf, KCONFIG_SEC). The object lies in its program as
// it is.

#include "guest/kernel_config.h"

#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "base/file.h"

namespace ktstr::guest {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr size_t kLongestName = 128;  // With the NUL bytes around it.
constexpr std::string_view kPrefix = "CONFIG_";
constexpr std::string_view kSection{"\0.kconfig\0", 10};

bool IsOptionName(std::string_view name) {
  return name.size() > kPrefix.size() && std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isupper(static_cast<unsigned char>(c)) ||
                  absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '_';
         });
}

void AddNames(std::string_view piece, std::vector<std::string>* names) {
  for (size_t at = piece.find(kPrefix); at != std::string_view::npos;
       at = piece.find(kPrefix, at + 1)) {
    if (names->size() >= kMaxOptionNames) return;
    if (at == 0 || piece[at - 1] != '\0') continue;
    const std::string_view rest = piece.substr(at, kLongestName);
    const size_t end = rest.find('\0');
    if (end == std::string_view::npos || !IsOptionName(rest.substr(0, end))) continue;
    const std::string_view name = rest.substr(0, end);
    if (std::find(names->begin(), names->end(), name) == names->end()) names->emplace_back(name);
  }
}

}  // namespace

bool HasKernelConfig(const std::string& root) {
  utsname kernel{};
  if (uname(&kernel) != 0) return true;
  const std::string file = absl::StrCat(root, "/boot/config-", kernel.release);
  return access(file.c_str(), R_OK) == 0 ||
         access(absl::StrCat(root, "/proc/config.gz").c_str(), R_OK) == 0;
}

std::vector<std::string> OptionNames(const std::string& path) {
  const base::UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return {};
  std::vector<std::string> names;
  bool has_section = false;
  std::string piece;
  uint64_t offset = 0;
  while (true) {
    // The end of the last piece again: a name may lie across the border.
    piece.erase(0, piece.size() - std::min(piece.size(), kLongestName));
    const size_t kept = piece.size();
    piece.resize(kept + kPiece);
    const absl::StatusOr<size_t> got =
        base::ReadAt(file.get(), piece.data() + kept, kPiece, offset, path);
    if (!got.ok() || *got == 0) break;
    piece.resize(kept + *got);
    offset += *got;
    has_section = has_section || piece.find(kSection) != std::string::npos;
    AddNames(piece, &names);
  }
  return has_section ? names : std::vector<std::string>();
}

}  // namespace ktstr::guest
