// SPDX-License-Identifier: Apache-2.0
#include "client/kernel_package.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::client {
namespace {

constexpr size_t kMaxConfigBytes = size_t{4} << 20;
constexpr absl::string_view kDebMagic = "!<arch>\ndebian-binary";

using Archive = std::unique_ptr<archive, int (*)(archive*)>;

Archive NewReader() { return Archive(archive_read_new(), archive_read_free); }

absl::Status ArchiveError(archive* a, const std::string& path) {
  const char* text = archive_error_string(a);
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": damaged package: ", text == nullptr ? "unreadable" : text));
}

// The data.tar member of the outer archive, read piece by piece by the inner one.
struct Member {
  archive* outer;
  std::array<char, 64 << 10> buffer;
};

la_ssize_t ReadMember(archive*, void* data, const void** block) {
  Member* member = static_cast<Member*>(data);
  *block = member->buffer.data();
  return archive_read_data(member->outer, member->buffer.data(), member->buffer.size());
}

absl::StatusOr<std::string> ReadEntry(archive* a, const std::string& path) {
  std::string text;
  char buffer[64 << 10];
  la_ssize_t n;
  while ((n = archive_read_data(a, buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > kMaxConfigBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": its kernel configuration is larger than 4 MiB"));
    }
  }
  if (n < 0) return ArchiveError(a, path);
  return text;
}

bool IsConfig(absl::string_view name) {
  return absl::StrContains(name, "boot/config-") ||
         (absl::StrContains(name, "lib/modules/") && absl::EndsWith(name, "/config"));
}

absl::Status ReadFiles(archive* files, const std::string& path, KernelPackage* package) {
  archive_entry* entry;
  int result;
  while ((result = archive_read_next_header(files, &entry)) == ARCHIVE_OK ||
         result == ARCHIVE_WARN) {
    const char* raw = archive_entry_pathname(entry);
    const std::string name = raw == nullptr ? "" : raw;
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    if (absl::StrContains(name, "vmlinuz")) package->has_image = true;
    if (IsConfig(name)) {
      KTSTR_ASSIGN_OR_RETURN(package->config, ReadEntry(files, path));
    }
    // Both are found: what follows are modules.
    if (package->has_image && !package->config.empty()) return absl::OkStatus();
  }
  return result == ARCHIVE_EOF ? absl::OkStatus() : ArchiveError(files, path);
}

}  // namespace

absl::StatusOr<KernelPackage> InspectKernelPackage(const std::string& path) {
  KernelPackage package;
  KTSTR_ASSIGN_OR_RETURN(const base::UniqueFd fd, base::Open(path, O_RDONLY));
  char magic[kDebMagic.size()] = {};
  if (pread(fd.get(), magic, sizeof(magic), 0) != static_cast<ssize_t>(sizeof(magic)) ||
      absl::string_view(magic, sizeof(magic)) != kDebMagic) {
    return package;
  }
  package.is_package = true;
  const Archive outer = NewReader();
  archive_read_support_format_ar(outer.get());
  if (archive_read_open_fd(outer.get(), fd.get(), 64 << 10) != ARCHIVE_OK)
    return ArchiveError(outer.get(), path);
  archive_entry* entry;
  while (archive_read_next_header(outer.get(), &entry) == ARCHIVE_OK) {
    const char* name = archive_entry_pathname(entry);
    if (name == nullptr || !absl::StartsWith(name, "data.tar")) continue;
    Member member = {outer.get(), {}};
    const Archive inner = NewReader();
    archive_read_support_filter_all(inner.get());
    archive_read_support_format_tar(inner.get());
    if (archive_read_open(inner.get(), &member, nullptr, ReadMember, nullptr) != ARCHIVE_OK) {
      return ArchiveError(inner.get(), path);
    }
    KTSTR_RETURN_IF_ERROR(ReadFiles(inner.get(), path, &package));
    return package;
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": damaged package: it has no data.tar"));
}

}  // namespace ktstr::client
