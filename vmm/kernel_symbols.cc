// SPDX-License-Identifier: Apache-2.0
#include "vmm/kernel_symbols.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/file_size.h"

namespace ktstr::vmm {
namespace {

constexpr size_t kMaxImage = size_t{512} << 20;
constexpr size_t kMaxName = 512;   // KSYM_NAME_LEN of the kernel.
constexpr size_t kMaxShown = 128;  // One message holds a name for each vCPU.
constexpr uint64_t kMaxSymbols = 4 << 20;
constexpr uint64_t kKernelHalf = uint64_t{1} << 63;

std::optional<std::string_view> Range(std::string_view bytes, uint64_t offset, uint64_t size) {
  if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
  return bytes.substr(offset, size);
}

// The entries of a table of ELF structures; empty when it is not whole.
template <typename T>
std::vector<T> Table(std::string_view bytes, uint64_t offset, uint64_t count) {
  const auto range = Range(bytes, offset, count * sizeof(T));
  if (!range.has_value()) return {};
  std::vector<T> table(count);
  if (count > 0) memcpy(table.data(), range->data(), range->size());
  return table;
}

}  // namespace

struct KernelSymbols::Elf {
  explicit Elf(std::string_view image) : bytes(image) {
    const std::vector<Elf64_Ehdr> headers = Table<Elf64_Ehdr>(bytes, 0, 1);
    if (headers.empty() || memcmp(headers[0].e_ident, ELFMAG, SELFMAG) != 0 ||
        headers[0].e_ident[EI_CLASS] != ELFCLASS64 || headers[0].e_ident[EI_DATA] != ELFDATA2LSB) {
      return;
    }
    const Elf64_Ehdr& header = headers[0];
    if (header.e_phentsize == sizeof(Elf64_Phdr)) {
      segments = Table<Elf64_Phdr>(bytes, header.e_phoff, header.e_phnum);
    }
    if (header.e_shentsize == sizeof(Elf64_Shdr)) {
      sections = Table<Elf64_Shdr>(bytes, header.e_shoff, header.e_shnum);
    }
  }

  std::string_view bytes;
  std::vector<Elf64_Phdr> segments;
  std::vector<Elf64_Shdr> sections;
};

KernelSymbols KernelSymbols::Read(int image_fd) {
  const absl::StatusOr<uint64_t> size = base::SizeOf(image_fd, "kernel");
  if (!size.ok() || *size > kMaxImage) return {};
  std::string image(*size, '\0');
  const absl::StatusOr<size_t> got =
      base::ReadAt(image_fd, image.data(), image.size(), 0, "kernel");
  return got.ok() && *got == *size ? Parse(std::move(image)) : KernelSymbols();
}

KernelSymbols KernelSymbols::Parse(std::string image) {
  KernelSymbols symbols;
  symbols.image_ = std::make_unique<const std::string>(std::move(image));
  const Elf elf(*symbols.image_);
  symbols.TakeSymbolTable(elf);
  if (symbols.symbols_.empty()) symbols.TakeKallsyms(elf);
  return symbols;
}

void KernelSymbols::TakeSymbolTable(const Elf& elf) {
  for (const Elf64_Shdr& section : elf.sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= elf.sections.size()) continue;
    const Elf64_Shdr& strings = elf.sections[section.sh_link];
    if (!Range(elf.bytes, strings.sh_offset, strings.sh_size).has_value()) continue;
    const uint64_t count = std::min(section.sh_size / sizeof(Elf64_Sym), kMaxSymbols);
    for (const Elf64_Sym& entry : Table<Elf64_Sym>(elf.bytes, section.sh_offset, count)) {
      const unsigned type = ELF64_ST_TYPE(entry.st_info);
      if (type != STT_FUNC && type != STT_NOTYPE && type != STT_OBJECT) continue;
      if (entry.st_shndx == SHN_UNDEF || entry.st_shndx >= elf.sections.size()) continue;
      if (entry.st_name == 0 || entry.st_name >= strings.sh_size) continue;
      const bool code = (elf.sections[entry.st_shndx].sh_flags & SHF_EXECINSTR) != 0;
      symbols_.push_back(
          {entry.st_value, strings.sh_offset + entry.st_name, code, type == STT_FUNC});
    }
    break;  // A file has at most one.
  }
  std::stable_sort(symbols_.begin(), symbols_.end(), [](const Symbol& a, const Symbol& b) {
    return std::pair(a.address, !a.function) < std::pair(b.address, !b.function);
  });
}

void KernelSymbols::TakeKallsyms(const Elf& elf) {
  uint64_t low = UINT64_MAX;
  uint64_t high = 0;
  for (const Elf64_Phdr& segment : elf.segments) {
    if (segment.p_type != PT_LOAD || segment.p_vaddr < kKernelHalf ||
        segment.p_memsz > UINT64_MAX - segment.p_vaddr) {
      continue;
    }
    low = std::min(low, segment.p_vaddr);
    high = std::max(high, segment.p_vaddr + segment.p_memsz);
  }
  size_t left = elf.bytes.size();  // Segments that overlap are no kernel's, and cost time.
  for (const Elf64_Phdr& segment : elf.segments) {
    if (segment.p_type != PT_LOAD || segment.p_vaddr < kKernelHalf) continue;
    const auto bytes = Range(elf.bytes, segment.p_offset, segment.p_filesz);
    if (!bytes.has_value() || bytes->size() > left) continue;
    left -= bytes->size();
    kallsyms_ = Kallsyms::Find(*bytes, segment.p_vaddr, low, high);
    if (!kallsyms_.has_value()) continue;
    for (const Kallsyms::Entry& entry : kallsyms_->entries()) {
      const char type = absl::ascii_tolower(kallsyms_->Type(entry.place));
      symbols_.push_back({entry.address, entry.place, type == 't' || type == 'w', true});
    }
    return;
  }
}

std::string KernelSymbols::NameOf(const Symbol& symbol) const {
  if (kallsyms_.has_value()) {
    const std::string name = kallsyms_->Name(symbol.place);
    return name.empty() ? name : name.substr(1);
  }
  const std::string_view rest = std::string_view(*image_).substr(symbol.place, kMaxName + 1);
  const std::string name(rest.substr(0, rest.find('\0')));
  const bool good =
      name.size() <= kMaxName && std::all_of(name.begin(), name.end(), absl::ascii_isgraph);
  return good ? name : std::string();
}

std::string KernelSymbols::At(uint64_t address) const {
  const auto next =
      std::upper_bound(symbols_.begin(), symbols_.end(), address,
                       [](uint64_t value, const Symbol& symbol) { return value < symbol.address; });
  // How far the last symbol reaches is not known.
  if (next == symbols_.begin() || next == symbols_.end()) return {};
  const uint64_t start = std::prev(next)->address;
  auto symbol =
      std::lower_bound(symbols_.begin(), next, start,
                       [](const Symbol& symbol, uint64_t value) { return symbol.address < value; });
  for (; symbol != next; ++symbol) {
    if (!symbol->code) continue;
    std::string name = NameOf(*symbol);
    if (name.empty()) continue;
    if (name.size() > kMaxShown) name = name.substr(0, kMaxShown - 3) + "...";
    return absl::StrCat(name, "+0x", absl::Hex(address - start));
  }
  return {};
}

}  // namespace ktstr::vmm
