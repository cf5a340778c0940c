// SPDX-License-Identifier: Apache-2.0
#include "cache/archive_files.h"

#include <archive.h>
#include <archive_entry.h>

#include <cerrno>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "cache/decompress.h"

namespace ktstr::cache {
namespace {

constexpr int kMaxEntries = 200'000;
constexpr size_t kTarMagicAt = 257;  // "ustar", in the first header.

struct FreeArchive {
  void operator()(archive* a) const { archive_read_free(a); }
};
using Archive = std::unique_ptr<archive, FreeArchive>;

absl::Status ArchiveError(archive* a) {
  const char* text = archive_error_string(a);
  return absl::DataLossError(
      absl::StrCat("the package is damaged or cut short: ", text != nullptr ? text : "no details"));
}

// The data of the current entry of an archive.
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

struct Input {
  ByteSource* source;
  uint64_t max_bytes;
  absl::Status status;
  uint64_t total = 0;
};

la_ssize_t ReadInput(archive* a, void* opaque, const void** buffer) {
  auto* input = static_cast<Input*>(opaque);
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

// The canonical relative path; InvalidArgument for a path that leaves the root.
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

void Support(archive* reader, ArchiveFormat format) {
  switch (format) {
    case ArchiveFormat::kAr:
      archive_read_support_format_ar(reader);
      break;
    case ArchiveFormat::kTar:
      archive_read_support_format_tar(reader);
      archive_read_support_format_empty(reader);
      break;
    case ArchiveFormat::kCpio:
      archive_read_support_format_cpio(reader);
      break;
  }
}

}  // namespace

absl::Status ReadArchive(ByteSource* source, ArchiveFormat format, uint64_t max_bytes,
                         const OnFile& on_file) {
  Input input{source, max_bytes, absl::OkStatus()};
  Archive reader(archive_read_new());
  Support(reader.get(), format);
  if (archive_read_open(reader.get(), &input, nullptr, &ReadInput, nullptr) != ARCHIVE_OK) {
    return input.status.ok() ? ArchiveError(reader.get()) : input.status;
  }
  for (int count = 0;; ++count) {
    archive_entry* entry = nullptr;
    int result = archive_read_next_header(reader.get(), &entry);
    if (!input.status.ok()) return input.status;
    if (result == ARCHIVE_EOF) return absl::OkStatus();
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) return ArchiveError(reader.get());
    if (count >= kMaxEntries) {
      return absl::ResourceExhaustedError(absl::StrCat("more than ", kMaxEntries, " files"));
    }
    KTSTR_ASSIGN_OR_RETURN(std::string path, SafePath(archive_entry_pathname(entry)));
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr) {
      continue;
    }
    EntrySource data(reader.get());
    absl::Status status = on_file(path, &data);
    if (!input.status.ok()) return input.status;
    KTSTR_RETURN_IF_ERROR(status);
  }
}

absl::Status ReadPackedArchive(ByteSource* packed, ArchiveFormat format, uint64_t max_bytes,
                               const OnFile& on_file) {
  KTSTR_ASSIGN_OR_RETURN(std::string_view piece, packed->Next());
  JoinedSource joined{std::string(piece), packed};
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> plain,
                         Decompress(CompressionOf(piece), &joined));
  return ReadArchive(plain.get(), format, max_bytes, on_file);
}

bool IsTar(std::string_view start) {
  return start.size() > kTarMagicAt && start.substr(kTarMagicAt, 5) == "ustar";
}

}  // namespace ktstr::cache
