// SPDX-License-Identifier: Apache-2.0
#include "guest/cpio.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::guest {
namespace {

constexpr std::string_view kMagic = "070701";
constexpr std::string_view kTrailer = "TRAILER!!!";
constexpr size_t kHeaderSize = 110;
constexpr size_t kFieldSize = 8;
// Index of a field among the thirteen that follow the magic.
constexpr size_t kModeField = 1;
constexpr size_t kFileSizeField = 6;
constexpr size_t kNameSizeField = 11;

absl::Status Bad(size_t offset, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("bundle: entry at byte ", offset, ": ",
                                                 absl::string_view(what.data(), what.size())));
}

// Exactly eight hexadecimal digits.
bool ParseHex(std::string_view digits, uint32_t* value) {
  *value = 0;
  for (char c : digits) {
    uint32_t digit;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else {
      return false;
    }
    *value = *value << 4 | digit;
  }
  return true;
}

size_t Align4(size_t value) { return (value + 3) & ~size_t{3}; }

bool IsSafePath(std::string_view path) {
  while (true) {
    const size_t slash = path.find('/');
    const std::string_view component = path.substr(0, slash);
    if (component.empty() || component == "." || component == ".." ||
        component.find('\0') != std::string_view::npos) {
      return false;
    }
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

struct RawEntry {
  std::string_view name;
  uint32_t mode = 0;
  std::string_view data;
  size_t end = 0;  // Offset of the next entry.
};

absl::StatusOr<RawEntry> ParseOne(std::string_view archive, size_t offset) {
  const std::string_view header = archive.substr(offset, kHeaderSize);
  if (header.size() < kHeaderSize)
    return Bad(offset, "the archive ends within the header, no trailer was seen");
  if (header.substr(0, kMagic.size()) != kMagic) return Bad(offset, "no newc magic 070701");
  uint32_t field[13];
  for (size_t i = 0; i < 13; ++i) {
    if (!ParseHex(header.substr(kMagic.size() + i * kFieldSize, kFieldSize), &field[i])) {
      return Bad(offset, absl::StrCat("header field ", i, " is not hexadecimal"));
    }
  }
  const size_t name_size = field[kNameSizeField];
  const size_t data_size = field[kFileSizeField];
  if (name_size < 2 || name_size > kMaxCpioName)
    return Bad(offset, absl::StrCat("name of ", name_size, " bytes"));
  const size_t name_at = offset + kHeaderSize;
  const size_t data_at = Align4(name_at + name_size);
  if (data_at > archive.size() || data_size > archive.size() - data_at) {
    return Bad(offset, absl::StrCat("name of ", name_size, " and data of ", data_size,
                                    " bytes reach past the archive's end"));
  }
  if (archive[name_at + name_size - 1] != '\0')
    return Bad(offset, "the name does not end with a zero byte");
  RawEntry entry;
  entry.name = archive.substr(name_at, name_size - 1);
  entry.mode = field[kModeField];
  entry.data = archive.substr(data_at, data_size);
  entry.end = Align4(data_at + data_size);
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<CpioEntry>> ParseCpio(std::string_view archive) {
  std::vector<CpioEntry> entries;
  size_t offset = 0;
  while (true) {
    if (offset > archive.size()) return Bad(offset, "the archive ends before its trailer");
    KTSTR_ASSIGN_OR_RETURN(const RawEntry raw, ParseOne(archive, offset));
    if (raw.name == kTrailer) return entries;
    if (!IsSafePath(raw.name))
      return Bad(offset, "the name is absolute or has an empty, '.' or '..' component");
    if (!S_ISREG(raw.mode) && !S_ISDIR(raw.mode)) {
      return Bad(offset, absl::StrCat("mode 0", absl::Hex(raw.mode),
                                      " (hex) is neither a regular file nor a directory"));
    }
    if (entries.size() == kMaxCpioEntries)
      return Bad(offset, absl::StrCat("more than ", kMaxCpioEntries, " entries"));
    entries.push_back({.name = raw.name,
                       .directory = S_ISDIR(raw.mode),
                       .permissions = raw.mode & 0777,
                       .data = raw.data});
    offset = raw.end;
  }
}

absl::Status UnpackCpio(std::string_view archive, const std::string& root) {
  KTSTR_ASSIGN_OR_RETURN(const std::vector<CpioEntry> entries, ParseCpio(archive));
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(root));
  for (const CpioEntry& entry : entries) {
    const std::string path = base::JoinPath(root, entry.name);
    if (entry.directory) {
      KTSTR_RETURN_IF_ERROR(base::MakeDirs(path));
      continue;
    }
    KTSTR_RETURN_IF_ERROR(base::MakeDirs(std::string(base::Dirname(path))));
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd,
                           base::Open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    KTSTR_RETURN_IF_ERROR(base::WriteAll(fd.get(), entry.data, path));
    if (fchmod(fd.get(), entry.permissions) != 0)
      return base::ErrnoStatus(errno, absl::StrCat("chmod ", path));
  }
  return absl::OkStatus();
}

}  // namespace ktstr::guest
