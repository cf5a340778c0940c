// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_image.h"

#include <elf.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "cache/archive_files.h"
#include "cache/btf.h"
#include "cache/byte_source.h"
#include "cache/decompress.h"
#include "cache/elf_image.h"
#include "cache/rpm_header.h"

namespace ktstr::cache {
namespace {

// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
constexpr size_t kSetupSectsAt = 0x1f1;
constexpr size_t kMagicAt = 0x202;  // "HdrS"
constexpr size_t kProtocolAt = 0x206;
constexpr size_t kPayloadOffsetAt = 0x248;
constexpr size_t kPayloadLengthAt = 0x24c;
constexpr uint16_t kProtocolWithPayload = 0x0208;
constexpr size_t kSector = 512;

constexpr uint32_t kXenNotePhysEntry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY, the PVH entry point.
constexpr int kMaxScanAttempts = 32;
constexpr size_t kMaxReleaseLength = 64;  // __NEW_UTS_LEN

template <typename T>
T LoadAt(std::string_view data, size_t offset) {  // `offset` is in range.
  T value;
  memcpy(&value, data.data() + offset, sizeof(value));
  return value;
}

bool IsElf(std::string_view data) {
  return data.substr(0, SELFMAG) == std::string_view(ELFMAG, SELFMAG);
}

bool IsBzImage(std::string_view data) {
  return data.size() >= kPayloadLengthAt + 4 && data.substr(kMagicAt, 4) == "HdrS";
}

absl::StatusOr<std::string> Unpack(std::string_view payload, Compression compression,
                                   uint64_t max_bytes) {
  MemorySource input(payload);
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, Decompress(compression, &input));
  // Tests the first bytes before the rest: magic numbers in other data then cost little.
  KTSTR_ASSIGN_OR_RETURN(std::string_view piece, source->Next());
  if (!IsElf(piece)) return absl::InvalidArgumentError("no ELF file in the payload");
  std::string first(piece);
  if (first.size() > max_bytes) return absl::ResourceExhaustedError("larger than the limit");
  absl::StatusOr<std::string> rest = ReadAll(source.get(), max_bytes - first.size());
  if (!rest.ok()) return rest.status();
  first.append(*rest);
  return first;
}

struct Unpacked {
  std::string vmlinux;
  Compression compression;
};

// The payload that the setup header describes; empty when the header is unusable.
std::string_view PayloadByHeader(std::string_view file) {
  if (LoadAt<uint16_t>(file, kProtocolAt) < kProtocolWithPayload) return {};
  size_t sectors = static_cast<uint8_t>(file[kSetupSectsAt]);
  uint64_t start = (uint64_t{sectors == 0 ? 4 : sectors} + 1) * kSector +
                   LoadAt<uint32_t>(file, kPayloadOffsetAt);
  uint64_t length = LoadAt<uint32_t>(file, kPayloadLengthAt);
  if (start >= file.size() || length == 0) return {};
  return file.substr(start, length);
}

absl::StatusOr<Unpacked> UnpackBzImage(std::string_view file, uint64_t max_bytes) {
  absl::Status failure = absl::InvalidArgumentError(
      "no kernel payload (zstd, gzip, xz, lz4 or plain ELF) found in the bzImage");
  std::string_view payload = PayloadByHeader(file);
  Compression compression = CompressionOf(payload);
  if (compression != Compression::kNone || IsElf(payload)) {
    absl::StatusOr<std::string> vmlinux = Unpack(payload, compression, max_bytes);
    if (vmlinux.ok()) return Unpacked{*std::move(vmlinux), compression};
    failure = vmlinux.status();
    if (absl::IsResourceExhausted(failure)) return failure;
  }
  // An old boot protocol or a changed header: look for the magic numbers, as
  // scripts/extract-vmlinux does.
  int attempts = 0;
  for (size_t at = kMagicAt; at < file.size() && attempts < kMaxScanAttempts; ++at) {
    switch (file[at]) {
      case '\x1f':
      case '\xfd':
      case '\x28':
      case '\x02':
        break;
      default:
        continue;
    }
    Compression found = CompressionOf(file.substr(at));
    if (found == Compression::kNone) continue;
    ++attempts;
    absl::StatusOr<std::string> vmlinux = Unpack(file.substr(at), found, max_bytes);
    if (vmlinux.ok()) return Unpacked{*std::move(vmlinux), found};
    if (absl::IsResourceExhausted(vmlinux.status()) || absl::IsDataLoss(vmlinux.status())) {
      failure = vmlinux.status();
    }
  }
  return failure;
}

// The release in the banner "Linux version 7.3.4+deb13-cloud-amd64 (builder) ...".
std::string FindRelease(std::string_view vmlinux) {
  constexpr std::string_view kBanner = "Linux version ";
  for (size_t at = vmlinux.find(kBanner); at != std::string_view::npos;
       at = vmlinux.find(kBanner, at + 1)) {
    std::string_view rest = vmlinux.substr(at + kBanner.size(), kMaxReleaseLength + 1);
    size_t end = rest.find(' ');
    if (end == std::string_view::npos || end == 0) continue;
    std::string_view release = rest.substr(0, end);
    bool printable = std::all_of(release.begin(), release.end(), [](unsigned char c) {
      return isalnum(c) || c == '.' || c == '-' || c == '+' || c == '_' || c == '~';
    });
    if (printable && !VersionOfRelease(release).empty()) return std::string(release);
  }
  return "";
}

absl::Status CheckMachine(const ElfImage& elf) {
  if (elf.machine() == EM_AARCH64) {
    return absl::InvalidArgumentError(
        "a 64-bit Arm (aarch64) kernel; only x86_64 kernels can be used");
  }
  if (elf.machine() != EM_X86_64) {
    return absl::InvalidArgumentError(absl::StrCat("an ELF file for machine ", elf.machine(),
                                                   "; only x86_64 kernels can be used"));
  }
  return absl::OkStatus();
}

absl::Status Describe(KernelImage* kernel) {
  KTSTR_ASSIGN_OR_RETURN(ElfImage elf, ElfImage::Parse(kernel->vmlinux));
  KTSTR_RETURN_IF_ERROR(CheckMachine(elf));
  kernel->release = FindRelease(kernel->vmlinux);
  if (elf.type() != ET_EXEC || kernel->release.empty()) {
    return absl::InvalidArgumentError(
        "an ELF file, but not a Linux kernel (no \"Linux version\" banner in an executable image)");
  }
  kernel->version = VersionOfRelease(kernel->release);
  bool pvh = false;
  for (const ElfImage::Note& note : elf.Notes()) {
    if (note.owner == "Xen" && note.type == kXenNotePhysEntry) pvh = true;
    if (note.owner == "GNU" && note.type == NT_GNU_BUILD_ID && kernel->build_id.empty()) {
      kernel->build_id = absl::BytesToHexString(base::ToAbsl(note.description.substr(0, 32)));
    }
  }
  if (!pvh) {
    return absl::FailedPreconditionError(absl::StrCat(
        "kernel ", kernel->release,
        " has no PVH entry note, so that it cannot be entered by PVH. Take a kernel that is built "
        "with CONFIG_PVH=y (Debian's are)."));
  }
  if (auto btf = elf.Section(".BTF"); btf.has_value()) {
    KTSTR_ASSIGN_OR_RETURN(kernel->sched_ext, BtfHasStruct(*btf, "sched_ext_ops"));
    kernel->btf = std::string(*btf);
  }
  return absl::OkStatus();
}

}  // namespace

FileKind FileKindOf(std::string_view data) {
  if (data.substr(0, 8) == "!<arch>\n") return FileKind::kDeb;
  if (data.substr(0, kRpmMagic.size()) == kRpmMagic) return FileKind::kRpm;
  if (IsElf(data)) return FileKind::kElf;
  if (IsBzImage(data)) return FileKind::kBzImage;
  if (CompressionOf(data) != Compression::kNone || IsTar(data)) return FileKind::kPacked;
  return FileKind::kOther;
}

std::string DescribeOther(std::string_view data) {
  if (data.empty()) return "an empty file";
  // Documentation/arch/arm64/booting.rst: "ARM\x64" at 56; the EFI zboot image has "zimg" at 4.
  if (data.size() > 60 && data.substr(56, 4) == "ARM\x64") return "a 64-bit Arm kernel image";
  if (data.size() > 8 && data.substr(0, 2) == "MZ" && data.substr(4, 4) == "zimg") {
    return "an EFI zboot kernel image of another architecture";
  }
  size_t text = data.find_first_not_of(" \t\r\n");
  if (text != std::string_view::npos) {
    std::string start = absl::AsciiStrToLower(base::ToAbsl(data.substr(text, 16)));
    if (absl::StartsWith(start, "<!doctype html") || absl::StartsWith(start, "<html")) {
      return "an HTML page, as a server sends with an error; download the file again";
    }
  }
  Compression compression = CompressionOf(data);
  if (compression != Compression::kNone) {
    return absl::StrCat("a ", CompressionName(compression), " file; unpack it first");
  }
  return absl::StrCat("something else (it begins with the bytes ",
                      absl::BytesToHexString(base::ToAbsl(data.substr(0, 8))), ")");
}

std::string VersionOfRelease(std::string_view release) {
  size_t at = 0;
  int numbers = 0;
  for (;;) {
    size_t digits = at;
    while (digits < release.size() && isdigit(static_cast<unsigned char>(release[digits]))) {
      ++digits;
    }
    if (digits == at) break;
    at = digits;
    if (++numbers == 3 || at + 1 >= release.size() || release[at] != '.' ||
        !isdigit(static_cast<unsigned char>(release[at + 1]))) {
      break;
    }
    ++at;
  }
  if (numbers < 2) return "";
  std::string version(release.substr(0, at));
  if (release.substr(at, 3) == "-rc") {
    size_t end = at + 3;
    while (end < release.size() && isdigit(static_cast<unsigned char>(release[end]))) ++end;
    if (end > at + 3) version = std::string(release.substr(0, end));
  }
  return version;
}

absl::StatusOr<KernelImage> DecodeKernel(std::string_view file, uint64_t max_vmlinux) {
  KernelImage kernel;
  switch (FileKindOf(file)) {
    case FileKind::kElf:
      if (file.size() > max_vmlinux) {
        return absl::ResourceExhaustedError(absl::StrCat("larger than ", max_vmlinux, " bytes"));
      }
      kernel.vmlinux = std::string(file);
      kernel.compression = CompressionName(Compression::kNone);
      break;
    case FileKind::kBzImage: {
      KTSTR_ASSIGN_OR_RETURN(Unpacked unpacked, UnpackBzImage(file, max_vmlinux));
      kernel.vmlinux = std::move(unpacked.vmlinux);
      kernel.compression = CompressionName(unpacked.compression);
      break;
    }
    case FileKind::kDeb:
    case FileKind::kRpm:
    case FileKind::kPacked:
    case FileKind::kOther:
      return absl::InvalidArgumentError(
          absl::StrCat("not a bzImage or vmlinux ELF file but ", DescribeOther(file)));
  }
  KTSTR_RETURN_IF_ERROR(Describe(&kernel));
  return kernel;
}

}  // namespace ktstr::cache
