// SPDX-License-Identifier: Apache-2.0
#include "cache/elf_image.h"

#include <elf.h>

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace ktstr::cache {
namespace {

// nullopt when [offset, offset + size) is not inside `data`.
std::optional<std::string_view> Range(std::string_view data, uint64_t offset, uint64_t size) {
  if (offset > data.size() || size > data.size() - offset) return std::nullopt;
  return data.substr(offset, size);
}

template <typename T>
std::optional<T> Load(std::string_view data, uint64_t offset) {
  std::optional<std::string_view> bytes = Range(data, offset, sizeof(T));
  if (!bytes.has_value()) return std::nullopt;
  T value;
  memcpy(&value, bytes->data(), sizeof(T));
  return value;
}

absl::Status CutShort(std::string_view what) {
  return absl::DataLossError(absl::StrCat("the ELF file is damaged or cut short: its ",
                                          absl::string_view(what.data(), what.size()),
                                          " lies outside of it"));
}

std::string_view NameAt(std::string_view names, uint32_t offset) {
  if (offset >= names.size()) return {};
  std::string_view rest = names.substr(offset);
  size_t end = rest.find('\0');
  return end == std::string_view::npos ? std::string_view() : rest.substr(0, end);
}

// A note: sizes of owner and description, type, then both padded to 4 bytes.
void AppendNotes(std::string_view data, std::vector<ElfImage::Note>* notes) {
  while (data.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr header;
    memcpy(&header, data.data(), sizeof(header));
    uint64_t description_at = sizeof(header) + ((uint64_t{header.n_namesz} + 3) & ~uint64_t{3});
    uint64_t next = description_at + ((uint64_t{header.n_descsz} + 3) & ~uint64_t{3});
    auto owner = Range(data, sizeof(header), header.n_namesz);
    auto description = Range(data, description_at, header.n_descsz);
    if (!owner.has_value() || !description.has_value()) return;
    while (!owner->empty() && owner->back() == '\0') owner->remove_suffix(1);
    notes->push_back({*owner, header.n_type, *description});
    if (next >= data.size()) return;
    data.remove_prefix(next);
  }
}

}  // namespace

absl::StatusOr<ElfImage> ElfImage::Parse(std::string_view data) {
  if (data.substr(0, SELFMAG) != std::string_view(ELFMAG, SELFMAG)) {
    return absl::InvalidArgumentError("not an ELF file");
  }
  std::optional<Elf64_Ehdr> header = Load<Elf64_Ehdr>(data, 0);
  if (!header.has_value()) return CutShort("header");
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB) {
    return absl::InvalidArgumentError("not a 64-bit little-endian ELF file");
  }
  ElfImage image;
  image.type_ = header->e_type;
  image.machine_ = header->e_machine;
  if (header->e_phnum > 0) {
    if (header->e_phentsize != sizeof(Elf64_Phdr)) return CutShort("program header table");
    KTSTR_RETURN_IF_ERROR(image.ReadSegments(data, header->e_phoff, header->e_phnum));
  }
  if (header->e_shnum > 0) {
    if (header->e_shentsize != sizeof(Elf64_Shdr)) return CutShort("section header table");
    KTSTR_RETURN_IF_ERROR(
        image.ReadSections(data, header->e_shoff, header->e_shnum, header->e_shstrndx));
  }
  return image;
}

absl::Status ElfImage::ReadSegments(std::string_view data, uint64_t offset, uint32_t count) {
  auto table = Range(data, offset, uint64_t{count} * sizeof(Elf64_Phdr));
  if (!table.has_value()) return CutShort("program header table");
  for (uint32_t i = 0; i < count; ++i) {
    Elf64_Phdr header = *Load<Elf64_Phdr>(*table, uint64_t{i} * sizeof(Elf64_Phdr));
    if (header.p_type != PT_LOAD && header.p_type != PT_NOTE) continue;
    auto content = Range(data, header.p_offset, header.p_filesz);
    if (!content.has_value()) return CutShort("segment");
    if (header.p_type == PT_NOTE) note_segments_.push_back(*content);
  }
  return absl::OkStatus();
}

absl::Status ElfImage::ReadSections(std::string_view data, uint64_t offset, uint32_t count,
                                    uint32_t names) {
  auto table = Range(data, offset, uint64_t{count} * sizeof(Elf64_Shdr));
  if (!table.has_value()) return CutShort("section header table");
  std::string_view strings;
  if (names < count) {
    Elf64_Shdr header = *Load<Elf64_Shdr>(*table, uint64_t{names} * sizeof(Elf64_Shdr));
    strings = Range(data, header.sh_offset, header.sh_size).value_or(std::string_view());
  }
  for (uint32_t i = 0; i < count; ++i) {
    Elf64_Shdr header = *Load<Elf64_Shdr>(*table, uint64_t{i} * sizeof(Elf64_Shdr));
    if (header.sh_type == SHT_NULL || header.sh_type == SHT_NOBITS) continue;
    auto content = Range(data, header.sh_offset, header.sh_size);
    if (!content.has_value()) return CutShort("section");
    sections_.push_back({NameAt(strings, header.sh_name), header.sh_type, *content});
  }
  return absl::OkStatus();
}

std::optional<std::string_view> ElfImage::Section(std::string_view name) const {
  for (const Part& section : sections_) {
    if (section.name == name && !section.content.empty()) return section.content;
  }
  return std::nullopt;
}

std::vector<ElfImage::Note> ElfImage::Notes() const {
  std::vector<Note> notes;
  for (const Part& section : sections_) {
    if (section.type == SHT_NOTE) AppendNotes(section.content, &notes);
  }
  for (std::string_view segment : note_segments_) AppendNotes(segment, &notes);
  return notes;
}

}  // namespace ktstr::cache
