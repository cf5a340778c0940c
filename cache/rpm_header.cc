// SPDX-License-Identifier: Apache-2.0
#include "cache/rpm_header.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/utf8.h"

namespace ktstr::cache {
namespace {

constexpr size_t kLeadBytes = 96;
constexpr size_t kEntryBytes = 16;
constexpr std::string_view kSectionMagic = "\x8e\xad\xe8\x01";
constexpr uint32_t kMaxEntries = 1 << 16;
constexpr uint32_t kMaxDataBytes = 64 << 20;

// rpmtag.h of rpm.
constexpr uint32_t kTagName = 1000;
constexpr uint32_t kTagVersion = 1001;
constexpr uint32_t kTagRelease = 1002;
constexpr uint32_t kTagArch = 1022;
constexpr uint32_t kTagPayloadFormat = 1124;
constexpr uint32_t kTagPayloadCompressor = 1125;
constexpr uint32_t kTypeString = 6;

absl::Status Damaged(absl::string_view how) {
  return absl::DataLossError(absl::StrCat("the package is damaged or cut short: ", how));
}

uint32_t Number(std::string_view data, size_t at) {  // Big endian; `at` is in range.
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(data[at + i]);
  return value;
}

}  // namespace

struct RpmReader::Section {
  std::string entries;
  std::string data;

  // The text of `tag`; empty: none.
  std::string Text(uint32_t tag) const {
    for (size_t at = 0; at < entries.size(); at += kEntryBytes) {
      if (Number(entries, at) != tag || Number(entries, at + 4) != kTypeString) continue;
      const uint32_t offset = Number(entries, at + 8);
      if (offset >= data.size()) return "";
      const std::string_view text = std::string_view(data).substr(offset);
      return base::SanitizeUtf8(text.substr(0, text.find('\0')));
    }
    return "";
  }
};

absl::StatusOr<std::string_view> RpmReader::Rest::Next() {
  if (!piece_.empty()) return std::exchange(piece_, {});
  return source_->Next();
}

absl::StatusOr<std::string> RpmReader::Rest::Take(size_t size) {
  std::string taken;
  while (taken.size() < size) {
    if (piece_.empty()) {
      KTSTR_ASSIGN_OR_RETURN(piece_, source_->Next());
      if (piece_.empty()) return Damaged("it ends in its header");
    }
    const size_t part = std::min(size - taken.size(), piece_.size());
    taken.append(piece_.substr(0, part));
    piece_.remove_prefix(part);
  }
  return taken;
}

absl::StatusOr<RpmReader::Section> RpmReader::ReadSection() {
  KTSTR_ASSIGN_OR_RETURN(const std::string intro, rest_.Take(16));
  if (std::string_view(intro).substr(0, 4) != kSectionMagic) return Damaged("no header");
  const uint32_t entries = Number(intro, 8);
  const uint32_t bytes = Number(intro, 12);
  if (entries > kMaxEntries || bytes > kMaxDataBytes) return Damaged("its header is too large");
  Section section;
  KTSTR_ASSIGN_OR_RETURN(section.entries, rest_.Take(size_t{entries} * kEntryBytes));
  KTSTR_ASSIGN_OR_RETURN(section.data, rest_.Take(bytes));
  return section;
}

absl::StatusOr<RpmHeader> RpmReader::ReadHeader() {
  KTSTR_ASSIGN_OR_RETURN(const std::string lead, rest_.Take(kLeadBytes));
  if (std::string_view(lead).substr(0, kRpmMagic.size()) != kRpmMagic) return Damaged("no lead");
  KTSTR_ASSIGN_OR_RETURN(const Section signature, ReadSection());
  KTSTR_RETURN_IF_ERROR(rest_.Take((8 - signature.data.size() % 8) % 8).status());
  KTSTR_ASSIGN_OR_RETURN(const Section section, ReadSection());
  RpmHeader header{section.Text(kTagName), section.Text(kTagVersion), section.Text(kTagRelease),
                   section.Text(kTagArch)};
  if (header.name.empty() || header.version.empty()) return Damaged("no name and version");
  const std::string format = section.Text(kTagPayloadFormat);
  const std::string packing = section.Text(kTagPayloadCompressor);
  const bool known = packing.empty() || packing == "gzip" || packing == "xz" || packing == "zstd";
  if ((!format.empty() && format != "cpio") || !known) {
    return absl::InvalidArgumentError(absl::StrCat(
        "package ", header.name, " has a payload of another kind (", format, ", ", packing,
        "); unpack it with `rpm2cpio FILE | cpio -id` and import its vmlinuz"));
  }
  return header;
}

}  // namespace ktstr::cache
