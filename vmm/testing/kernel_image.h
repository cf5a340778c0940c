// SPDX-License-Identifier: Apache-2.0
//
// Kernel images of a few KB whose only content is symbols, as each generation of kernels has them.

#ifndef KTSTR_VMM_TESTING_KERNEL_IMAGE_H_
#define KTSTR_VMM_TESTING_KERNEL_IMAGE_H_

#include <elf.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ktstr::vmm::testing {

inline constexpr uint64_t kKernelBase = 0xffffffff81000000;

// Where the addresses of kallsyms are.
enum class Layout { kBeforeNames, kBeforeNamesWithSequences, kBehindTokens, kAtOwnPlace };

inline bool IsBeforeNames(Layout layout) {
  return layout == Layout::kBeforeNames || layout == Layout::kBeforeNamesWithSequences;
}

struct TestSymbol {
  uint64_t address;
  std::string name;  // With its type: "Tdo_idle".
};

template <typename T>
void AppendAs(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

inline void Align(size_t alignment, std::string* out) {
  while (out->size() % alignment != 0) out->push_back('\0');
}

// In the codes of AppendTokens().
inline std::string CompressedName(const std::string& name) {
  std::string out;
  for (size_t at = 0; at < name.size();) {
    const bool token = name.compare(at, 6, "sched_") == 0;
    out.push_back(token ? '\1' : name[at]);
    at += token ? 6 : 1;
  }
  std::string length;
  length.push_back(static_cast<char>(out.size() < 0x80 ? out.size() : out.size() % 0x80 | 0x80));
  if (out.size() >= 0x80) length.push_back(static_cast<char>(out.size() / 0x80));
  return length + out;
}

// token_table and token_index. The code 1 is "sched_"; a printable character stands for itself.
inline void AppendTokens(size_t label, std::string* out) {
  std::vector<uint16_t> index;
  const size_t table = out->size();
  for (int code = 0; code < 256; ++code) {
    index.push_back(static_cast<uint16_t>(out->size() - table));
    if (code == 1) {
      *out += "sched_";
    } else if (code > ' ' && code < 0x7f) {
      out->push_back(static_cast<char>(code));
    } else {
      absl::StrAppend(out, "t", code);
    }
    out->push_back('\0');
  }
  Align(label, out);
  for (uint16_t place : index) AppendAs(place, out);
}

// The segment of kallsyms; it is loaded at `address`. Symbols of the lower half of the address
// space are absolute (per-CPU data); only those before the names have them.
inline std::string KallsymsSegment(Layout layout, uint64_t address,
                                   const std::vector<TestSymbol>& symbols) {
  std::string out(64, '\xcc');  // Some code.
  const size_t label = layout == Layout::kAtOwnPlace ? 4 : 8;
  bool absolute = false;
  for (const TestSymbol& symbol : symbols) absolute |= symbol.address < kKernelBase;
  const auto append_offsets = [&] {
    Align(label, &out);
    for (const TestSymbol& symbol : symbols) {
      uint64_t offset = symbol.address - kKernelBase;
      if (layout == Layout::kAtOwnPlace) {
        offset = symbol.address - (address + out.size());
      } else if (absolute) {
        offset = symbol.address < kKernelBase ? symbol.address : -1 - offset;
      }
      AppendAs(static_cast<uint32_t>(offset), &out);
    }
    Align(label, &out);
    if (layout != Layout::kAtOwnPlace) AppendAs(kKernelBase, &out);
  };
  if (IsBeforeNames(layout)) append_offsets();
  AppendAs(static_cast<uint32_t>(symbols.size()), &out);
  Align(label, &out);
  std::vector<uint32_t> markers;
  const size_t names = out.size();
  for (size_t i = 0; i < symbols.size(); ++i) {
    if (i % 256 == 0) markers.push_back(static_cast<uint32_t>(out.size() - names));
    out += CompressedName(symbols[i].name);
  }
  Align(label, &out);
  for (uint32_t marker : markers) AppendAs(marker, &out);
  Align(label, &out);
  if (layout == Layout::kBeforeNamesWithSequences) {
    for (size_t i = symbols.size(); i-- > 0;) {
      for (const int shift : {16, 8, 0}) out.push_back(static_cast<char>(i >> shift));
    }
    Align(label, &out);
  }
  AppendTokens(label, &out);
  if (!IsBeforeNames(layout)) append_offsets();
  out.append(64, '\xcc');
  return out;
}

inline Elf64_Ehdr ElfHeader() {
  Elf64_Ehdr header = {};
  for (int i = 0; i < SELFMAG; ++i) header.e_ident[i] = static_cast<uint8_t>(ELFMAG[i]);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  return header;
}

// An ELF file with one segment and no section.
inline std::string KallsymsImage(Layout layout, const std::vector<TestSymbol>& symbols) {
  constexpr size_t kOffset = 128;  // Aligned as the address is.
  static_assert(kOffset >= sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr));
  const std::string segment = KallsymsSegment(layout, kKernelBase, symbols);
  Elf64_Ehdr header = ElfHeader();
  header.e_phoff = sizeof(header);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  Elf64_Phdr load = {};
  load.p_type = PT_LOAD;
  load.p_offset = kOffset;
  load.p_vaddr = kKernelBase;
  load.p_filesz = segment.size();
  load.p_memsz = uint64_t{1} << 20;
  std::string image;
  AppendAs(header, &image);
  AppendAs(load, &image);
  image.resize(kOffset, '\0');
  return image + segment;
}

// An ELF file with a symbol table; each symbol is in a section of code.
inline std::string SymtabImage(const std::vector<TestSymbol>& symbols) {
  std::string strings(1, '\0');
  std::string table(sizeof(Elf64_Sym), '\0');
  for (const TestSymbol& symbol : symbols) {
    Elf64_Sym entry = {};
    entry.st_name = static_cast<uint32_t>(strings.size());
    entry.st_info = ELF64_ST_INFO(STB_GLOBAL, symbol.name[0] == 'D' ? STT_OBJECT : STT_FUNC);
    entry.st_shndx = 1;
    entry.st_value = symbol.address;
    AppendAs(entry, &table);
    strings += symbol.name.substr(1) + '\0';
  }
  Elf64_Shdr sections[4] = {};
  sections[1].sh_type = SHT_PROGBITS;
  sections[1].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
  sections[2].sh_type = SHT_SYMTAB;
  sections[2].sh_offset = sizeof(Elf64_Ehdr) + sizeof(sections);
  sections[2].sh_size = table.size();
  sections[2].sh_link = 3;
  sections[3].sh_type = SHT_STRTAB;
  sections[3].sh_offset = sections[2].sh_offset + table.size();
  sections[3].sh_size = strings.size();
  Elf64_Ehdr header = ElfHeader();
  header.e_shoff = sizeof(header);
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 4;
  std::string image;
  AppendAs(header, &image);
  for (const Elf64_Shdr& section : sections) AppendAs(section, &image);
  return image + table + strings;
}

}  // namespace ktstr::vmm::testing

#endif  // KTSTR_VMM_TESTING_KERNEL_IMAGE_H_
