// SPDX-License-Identifier: Apache-2.0
#include "cache/deb.h"

#include <archive.h>
#include <archive_entry.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "cache/byte_source.h"
#include "cache/decompress.h"

namespace ktstr::cache {
namespace {

constexpr uint64_t kMaxControlBytes = uint64_t{4} << 20;
constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20;
// Of everything unpacked, the parts that are skipped too, in units of the largest image (by default
// 8 GiB in all): a package that expands without end stops here.
constexpr uint64_t kMaxUnpackedImages = 32;
constexpr int kMaxEntries = 200'000;

struct FreeArchive {
  void operator()(archive* a) const { archive_read_free(a); }
};
using Archive = std::unique_ptr<archive, FreeArchive>;

absl::Status ArchiveError(archive* a) {
  const char* text = archive_error_string(a);
  return absl::DataLossError(
      absl::StrCat("the package is damaged or cut short: ", text != nullptr ? text : "no details"));
}

// The data of the entry that `archive` is at.
class EntrySource : public ByteSource {
 public:
  explicit EntrySource(archive* a) : archive_(a) {}
  absl::StatusOr<std::string_view> Next() override {
    const void* data = nullptr;
    size_t size = 0;
    la_int64_t offset = 0;
    do {  // A piece may be empty before the end.
      int result = archive_read_data_block(archive_, &data, &size, &offset);
      if (result == ARCHIVE_EOF) return std::string_view();
      if (result != ARCHIVE_OK) return ArchiveError(archive_);
    } while (size == 0);
    return std::string_view(static_cast<const char*>(data), size);
  }

 private:
  archive* const archive_;
};

// Gives `first`, then what `rest` has.
class JoinedSource : public ByteSource {
 public:
  JoinedSource(std::string first, ByteSource* rest) : first_(std::move(first)), rest_(rest) {}
  absl::StatusOr<std::string_view> Next() override {
    if (!std::exchange(begun_, true) && !first_.empty()) return first_;
    return rest_->Next();
  }

 private:
  const std::string first_;
  ByteSource* const rest_;
  bool begun_ = false;
};

struct TarInput {
  ByteSource* source;
  uint64_t max_bytes;
  absl::Status status;
  uint64_t total = 0;
};

la_ssize_t ReadTarInput(archive* a, void* opaque, const void** buffer) {
  auto* input = static_cast<TarInput*>(opaque);
  absl::StatusOr<std::string_view> piece = input->source->Next();
  if (piece.ok()) {
    input->total += piece->size();
    if (input->total > input->max_bytes) {
      piece = absl::ResourceExhaustedError(
          absl::StrCat("the package unpacks to more than ", input->max_bytes, " bytes"));
    }
  }
  if (!piece.ok()) {
    input->status = piece.status();
    archive_set_error(a, EIO, "%s", std::string(piece.status().message()).c_str());
    return -1;
  }
  *buffer = piece->data();
  return static_cast<la_ssize_t>(piece->size());
}

// Canonical relative path; InvalidArgument for one that could leave the root.
absl::StatusOr<std::string> SafePath(const char* raw) {
  if (raw == nullptr) return absl::InvalidArgumentError("a path in the package is no text");
  std::string path;
  if (*raw == '/') {
    return absl::InvalidArgumentError(absl::StrCat("absolute path '", raw, "' in the package"));
  }
  for (absl::string_view part : absl::StrSplit(raw, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      return absl::InvalidArgumentError(absl::StrCat("path '", raw, "' leaves the package"));
    }
    absl::StrAppend(&path, path.empty() ? "" : "/", part);
  }
  return path;
}

using OnFile = std::function<absl::Status(const std::string& path, ByteSource* data)>;

// Calls `on_file` for each regular file of a (compressed) tar.
absl::Status ReadTar(ByteSource* packed, uint64_t max_bytes, const OnFile& on_file) {
  KTSTR_ASSIGN_OR_RETURN(std::string_view piece, packed->Next());
  JoinedSource joined{std::string(piece), packed};
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> plain,
                         Decompress(CompressionOf(piece), &joined));
  TarInput input{plain.get(), max_bytes, absl::OkStatus()};
  Archive tar(archive_read_new());
  archive_read_support_format_tar(tar.get());
  archive_read_support_format_empty(tar.get());
  if (archive_read_open(tar.get(), &input, nullptr, &ReadTarInput, nullptr) != ARCHIVE_OK) {
    return input.status.ok() ? ArchiveError(tar.get()) : input.status;
  }
  for (int count = 0;; ++count) {
    archive_entry* entry = nullptr;
    int result = archive_read_next_header(tar.get(), &entry);
    if (result == ARCHIVE_EOF) return absl::OkStatus();
    if (!input.status.ok()) return input.status;
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) return ArchiveError(tar.get());
    if (count >= kMaxEntries) {
      return absl::ResourceExhaustedError(absl::StrCat("more than ", kMaxEntries, " files"));
    }
    KTSTR_ASSIGN_OR_RETURN(std::string path, SafePath(archive_entry_pathname(entry)));
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr) {
      continue;
    }
    EntrySource data(tar.get());
    absl::Status status = on_file(path, &data);
    if (!input.status.ok()) return input.status;
    KTSTR_RETURN_IF_ERROR(status);
  }
}

// Of a control file (deb822): "Field: value" lines of the first paragraph.
std::string Field(const std::string& control, absl::string_view field) {
  for (absl::string_view line : absl::StrSplit(control, '\n')) {
    if (absl::ConsumePrefix(&line, field) && absl::ConsumePrefix(&line, ":")) {
      return std::string(absl::StripAsciiWhitespace(line));
    }
  }
  return "";
}

absl::Status ReadControl(ByteSource* packed, DebKernel* deb) {
  return ReadTar(packed, kMaxControlBytes,
                 [deb](const std::string& path, ByteSource* data) -> absl::Status {
                   if (path != "control") return absl::OkStatus();
                   KTSTR_ASSIGN_OR_RETURN(std::string control, ReadAll(data, kMaxControlBytes));
                   deb->package = Field(control, "Package");
                   deb->version = Field(control, "Version");
                   deb->architecture = Field(control, "Architecture");
                   return absl::OkStatus();
                 });
}

// RELEASE when `path` is PREFIX RELEASE SUFFIX and RELEASE is one component; else empty.
std::string Between(absl::string_view path, absl::string_view prefix, absl::string_view suffix) {
  if (!absl::ConsumePrefix(&path, prefix) || !absl::ConsumeSuffix(&path, suffix)) return "";
  return absl::StrContains(path, "/") ? "" : std::string(path);
}

std::string ReleaseOf(const std::string& path, absl::string_view boot, absl::string_view file) {
  std::string release = Between(path, boot, "");
  if (release.empty()) release = Between(path, "usr/lib/modules/", file);
  if (release.empty()) release = Between(path, "lib/modules/", file);
  return release;
}

absl::Status ReadData(ByteSource* packed, uint64_t max_image, DebKernel* deb) {
  const uint64_t max_bytes = kMaxUnpackedImages * max_image;
  return ReadTar(packed, max_bytes, [=](const std::string& path, ByteSource* data) -> absl::Status {
    if (!ReleaseOf(path, "boot/vmlinuz-", "/vmlinuz").empty()) {
      if (!deb->image_path.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("holds two kernels: ", deb->image_path, " and ", path));
      }
      absl::StatusOr<std::string> image = ReadAll(data, max_image);
      if (!image.ok()) return base::Annotate(image.status(), path);
      deb->image = *std::move(image);
      deb->image_path = path;
    } else if (std::string release = ReleaseOf(path, "boot/config-", "/config");
               !release.empty() && deb->config.empty()) {
      absl::StatusOr<std::string> config = ReadAll(data, kMaxConfigBytes);
      if (!config.ok()) return base::Annotate(config.status(), path);
      deb->config = *std::move(config);
      deb->config_release = release;
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<DebKernel> ReadMembers(archive* ar, uint64_t max_image) {
  DebKernel deb;
  bool has_data = false;
  for (;;) {
    archive_entry* entry = nullptr;
    int result = archive_read_next_header(ar, &entry);
    if (result == ARCHIVE_EOF) break;
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) return ArchiveError(ar);
    const char* raw = archive_entry_pathname(entry);
    absl::string_view name = raw == nullptr ? "" : raw;
    EntrySource member(ar);
    if (absl::StartsWith(name, "control.tar")) {
      KTSTR_RETURN_IF_ERROR(ReadControl(&member, &deb));
    } else if (absl::StartsWith(name, "data.tar")) {
      if (has_data) return absl::InvalidArgumentError("has two data archives");
      has_data = true;
      KTSTR_RETURN_IF_ERROR(ReadData(&member, max_image, &deb));
    }
  }
  if (deb.package.empty() || deb.version.empty()) {
    return absl::DataLossError(
        "the package is damaged or cut short: no control file with Package and Version");
  }
  if (!has_data) {
    return absl::DataLossError("the package is damaged or cut short: no data archive");
  }
  return deb;
}

absl::StatusOr<DebKernel> ReadOpened(const Archive& ar, int opened, std::string_view name,
                                     uint64_t max_image) {
  absl::StatusOr<DebKernel> deb = ArchiveError(ar.get());
  if (opened == ARCHIVE_OK) deb = ReadMembers(ar.get(), max_image);
  if (!deb.ok()) return base::Annotate(deb.status(), name);
  return deb;
}

Archive NewArReader() {
  Archive ar(archive_read_new());
  archive_read_support_format_ar(ar.get());
  return ar;
}

}  // namespace

absl::StatusOr<DebKernel> ReadDeb(int fd, std::string_view name, uint64_t max_image) {
  Archive ar = NewArReader();
  int opened = archive_read_open_fd(ar.get(), fd, 256 << 10);
  return ReadOpened(ar, opened, name, max_image);
}

absl::StatusOr<DebKernel> ReadDebFromMemory(std::string_view data, std::string_view name,
                                            uint64_t max_image) {
  Archive ar = NewArReader();
  int opened = archive_read_open_memory(ar.get(), data.data(), data.size());
  return ReadOpened(ar, opened, name, max_image);
}

}  // namespace ktstr::cache
