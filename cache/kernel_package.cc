// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_package.h"

#include <limits>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "cache/archive_files.h"
#include "cache/decompress.h"
#include "cache/kernel_image.h"
#include "cache/rpm_header.h"

namespace ktstr::cache {
namespace {

constexpr uint64_t kMaxControlBytes = uint64_t{4} << 20;
constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20;
// Cap on all unpacked bytes, skipped files included, in units of the largest image (by default 8
// GiB in all): it ends a package that expands without end.
constexpr uint64_t kMaxUnpackedImages = 32;

absl::Status Damaged(absl::string_view how) {
  return absl::DataLossError(absl::StrCat("the package is damaged or cut short: ", how));
}

// The value of the first line "FIELD SEPARATOR value" in a Debian control file (deb822, ":") or in
// pacman's .PKGINFO ("=").
std::string Field(const std::string& text, absl::string_view field, char separator) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(separator, 1));
    if (absl::StripAsciiWhitespace(parts.first) == field) {
      return std::string(absl::StripAsciiWhitespace(parts.second));
    }
  }
  return "";
}

// The text between `prefix` and `suffix` when it is one path component; else empty.
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

// Reads the file when it is the image or the configuration.
absl::Status TakeFile(const std::string& path, ByteSource* data, uint64_t max_image,
                      KernelPackage* package) {
  if (!ReleaseOf(path, "boot/vmlinuz-", "/vmlinuz").empty()) {
    if (!package->image_path.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("holds two kernels: ", package->image_path, " and ", path));
    }
    absl::StatusOr<std::string> image = ReadAll(data, max_image);
    if (!image.ok()) return base::Annotate(image.status(), path);
    package->image = *std::move(image);
    package->image_path = path;
  } else if (std::string release = ReleaseOf(path, "boot/config-", "/config");
             !release.empty() && package->config.empty()) {
    absl::StatusOr<std::string> config = ReadAll(data, kMaxConfigBytes);
    if (!config.ok()) return base::Annotate(config.status(), path);
    package->config = *std::move(config);
    package->config_release = release;
  }
  return absl::OkStatus();
}

absl::Status ReadControl(ByteSource* packed, KernelPackage* package) {
  return ReadPackedArchive(packed, ArchiveFormat::kTar, kMaxControlBytes,
                           [package](const std::string& path, ByteSource* data) -> absl::Status {
                             if (path != "control") return absl::OkStatus();
                             KTSTR_ASSIGN_OR_RETURN(std::string control,
                                                    ReadAll(data, kMaxControlBytes));
                             package->package = Field(control, "Package", ':');
                             package->version = Field(control, "Version", ':');
                             package->architecture = Field(control, "Architecture", ':');
                             return absl::OkStatus();
                           });
}

absl::Status ReadDeb(ByteSource* file, uint64_t max_image, KernelPackage* package) {
  package->format = "deb";
  bool has_data = false;
  const auto member = [&](const std::string& name, ByteSource* data) -> absl::Status {
    if (absl::StartsWith(name, "control.tar")) return ReadControl(data, package);
    if (!absl::StartsWith(name, "data.tar")) return absl::OkStatus();
    if (std::exchange(has_data, true)) {
      return absl::InvalidArgumentError("has two data archives");
    }
    return ReadPackedArchive(data, ArchiveFormat::kTar, kMaxUnpackedImages * max_image,
                             [&](const std::string& path, ByteSource* content) {
                               return TakeFile(path, content, max_image, package);
                             });
  };
  KTSTR_RETURN_IF_ERROR(
      ReadArchive(file, ArchiveFormat::kAr, std::numeric_limits<uint64_t>::max(), member));
  if (package->package.empty() || package->version.empty()) {
    return Damaged("no control file with Package and Version");
  }
  return has_data ? absl::OkStatus() : Damaged("no data archive");
}

absl::Status ReadRpm(ByteSource* file, uint64_t max_image, KernelPackage* package) {
  package->format = "rpm";
  RpmReader rpm(file);
  KTSTR_ASSIGN_OR_RETURN(const RpmHeader header, rpm.ReadHeader());
  package->package = header.name;
  package->version = absl::StrCat(header.version, "-", header.release);
  package->architecture = header.architecture;
  return ReadPackedArchive(rpm.payload(), ArchiveFormat::kCpio, kMaxUnpackedImages * max_image,
                           [&](const std::string& path, ByteSource* content) {
                             return TakeFile(path, content, max_image, package);
                           });
}

absl::Status ReadPacman(ByteSource* tar, uint64_t max_image, KernelPackage* package) {
  package->format = "pacman";
  const auto on_file = [&](const std::string& path, ByteSource* data) -> absl::Status {
    if (path != ".PKGINFO") return TakeFile(path, data, max_image, package);
    KTSTR_ASSIGN_OR_RETURN(std::string info, ReadAll(data, kMaxControlBytes));
    package->package = Field(info, "pkgname", '=');
    package->version = Field(info, "pkgver", '=');
    package->architecture = Field(info, "arch", '=');
    return absl::OkStatus();
  };
  KTSTR_RETURN_IF_ERROR(
      ReadArchive(tar, ArchiveFormat::kTar, kMaxUnpackedImages * max_image, on_file));
  if (!package->package.empty() && !package->version.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "not a kernel but a tar archive that is no pacman package (it has no .PKGINFO). Unpack it "
      "and "
      "import the kernel in it");
}

absl::Status ReadPacked(ByteSource* file, Compression compression, uint64_t max_image,
                        KernelPackage* package) {
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> plain, Decompress(compression, file));
  KTSTR_ASSIGN_OR_RETURN(std::string_view start, plain->Next());
  if (!IsTar(start)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "not a kernel but a ", CompressionName(compression), " file; unpack it first"));
  }
  JoinedSource tar(std::string(start), plain.get());
  return ReadPacman(&tar, max_image, package);
}

absl::Status ReadAny(ByteSource* file, uint64_t max_image, KernelPackage* package) {
  KTSTR_ASSIGN_OR_RETURN(std::string_view start, file->Next());
  const FileKind kind = FileKindOf(start);
  const Compression compression = CompressionOf(start);
  JoinedSource whole(std::string(start), file);
  switch (kind) {
    case FileKind::kDeb:
      return ReadDeb(&whole, max_image, package);
    case FileKind::kRpm:
      return ReadRpm(&whole, max_image, package);
    case FileKind::kPacked:
      return ReadPacked(&whole, compression, max_image, package);
    case FileKind::kBzImage:
    case FileKind::kElf:
    case FileKind::kOther:
      break;
  }
  return absl::InvalidArgumentError("not a package");
}

}  // namespace

bool KernelPackage::ForX86() const {
  for (const char* one : {"amd64", "x86_64", "all", "noarch", "any"}) {
    if (architecture == one) return true;
  }
  return false;
}

absl::StatusOr<KernelPackage> ReadKernelPackage(ByteSource* file, std::string_view name,
                                                uint64_t max_image) {
  KernelPackage package;
  if (absl::Status status = ReadAny(file, max_image, &package); !status.ok()) {
    return base::Annotate(status, name);
  }
  return package;
}

}  // namespace ktstr::cache
