// SPDX-License-Identifier: Apache-2.0
#include "cache/test_kernel.h"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <linux/btf.h>
#include <lz4.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "base/log.h"

namespace ktstr::cache {
namespace {

template <typename T>
void Append(std::string* out, const T& value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string Note(std::string_view owner, uint32_t type, std::string_view description) {
  std::string note;
  Append(&note, Elf64_Nhdr{static_cast<uint32_t>(owner.size() + 1),
                           static_cast<uint32_t>(description.size()), type});
  note.append(owner);
  note.push_back('\0');
  note.resize((note.size() + 3) & ~size_t{3});
  note.append(description);
  note.resize((note.size() + 3) & ~size_t{3});
  return note;
}

}  // namespace

std::string MakeBtf(const std::vector<std::string>& structs) {
  std::string strings(1, '\0');
  std::string types;
  auto name = [&](const std::string& text) {
    uint32_t at = static_cast<uint32_t>(strings.size());
    strings.append(text).push_back('\0');
    return at;
  };
  btf_type number{name("int"), BTF_KIND_INT << 24, {4}};
  Append(&types, number);
  Append(&types, uint32_t{32});
  for (const std::string& text : structs) {
    btf_type type{name(text), (BTF_KIND_STRUCT << 24) | 1, {4}};
    Append(&types, type);
    Append(&types, btf_member{name("member"), 1, 0});
  }
  btf_header header{BTF_MAGIC,
                    1,
                    0,
                    sizeof(btf_header),
                    0,
                    static_cast<uint32_t>(types.size()),
                    static_cast<uint32_t>(types.size()),
                    static_cast<uint32_t>(strings.size())};
  std::string btf;
  Append(&btf, header);
  return btf + types + strings;
}

std::string MakeVmlinux(const TestKernel& kernel) {
  std::string notes;
  if (kernel.pvh) notes += Note("Xen", 18, std::string("\x60\x01\x8c\x03\0\0\0\0", 8));
  if (!kernel.build_id.empty()) notes += Note("GNU", NT_GNU_BUILD_ID, kernel.build_id);
  std::string data = kernel.release.empty()
                         ? std::string(64, 'x')
                         : absl::StrCat("Linux version ", kernel.release, " (builder) #1 SMP\n");
  data.resize(data.size() + kernel.padding);
  std::string btf;
  if (kernel.btf) btf = MakeBtf({"task_struct", kernel.sched_ext ? "sched_ext_ops" : "sched_ops"});
  const std::vector<std::pair<std::string, std::string>> sections = {
      {".rodata", data}, {".notes", notes}, {".BTF", btf}};

  std::string names(1, '\0');
  std::string body;
  std::vector<Elf64_Shdr> headers(1, Elf64_Shdr{});
  auto add = [&](const std::string& name, const std::string& content, uint32_t type) {
    Elf64_Shdr header{};
    header.sh_name = static_cast<uint32_t>(names.size());
    names.append(name).push_back('\0');
    header.sh_type = type;
    header.sh_offset = sizeof(Elf64_Ehdr) + body.size();
    header.sh_size = content.size();
    headers.push_back(header);
    body += content;
  };
  for (const auto& [name, content] : sections) {
    if (!content.empty()) add(name, content, name == ".notes" ? SHT_NOTE : SHT_PROGBITS);
  }
  std::string all_names = names;
  all_names.append(".shstrtab").push_back('\0');
  add(".shstrtab", all_names, SHT_STRTAB);

  Elf64_Ehdr header{};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = static_cast<uint16_t>(kernel.machine);
  header.e_ehsize = sizeof(header);
  header.e_shoff = sizeof(header) + body.size();
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = static_cast<uint16_t>(headers.size());
  header.e_shstrndx = static_cast<uint16_t>(headers.size() - 1);
  std::string elf;
  Append(&elf, header);
  elf += body;
  for (const Elf64_Shdr& section : headers) Append(&elf, section);
  return elf;
}

std::string Pack(Compression compression, std::string_view payload) {
  std::string out;
  uint32_t size = static_cast<uint32_t>(payload.size());
  switch (compression) {
    case Compression::kNone:
      return std::string(payload);
    case Compression::kGzip: {
      z_stream stream{};
      KTSTR_CHECK(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) ==
                  Z_OK);
      out.resize(deflateBound(&stream, payload.size()) + 64);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(payload.data()));
      stream.avail_in = size;
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = static_cast<uInt>(out.size());
      KTSTR_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
      out.resize(stream.total_out);
      deflateEnd(&stream);
      return out;
    }
    case Compression::kXz: {
      out.resize(lzma_stream_buffer_bound(payload.size()));
      size_t made = 0;
      KTSTR_CHECK(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, nullptr,
                                          reinterpret_cast<const uint8_t*>(payload.data()),
                                          payload.size(), reinterpret_cast<uint8_t*>(out.data()),
                                          &made, out.size()) == LZMA_OK);
      out.resize(made);
      break;
    }
    case Compression::kZstd:
      out.resize(ZSTD_compressBound(payload.size()));
      out.resize(ZSTD_compress(out.data(), out.size(), payload.data(), payload.size(), 3));
      break;
    case Compression::kLz4Legacy:
      Append(&out, uint32_t{0x184c2102});
      for (size_t at = 0; at < payload.size(); at += size_t{8} << 20) {
        std::string_view block = payload.substr(at, size_t{8} << 20);
        std::vector<char> packed(LZ4_compressBound(static_cast<int>(block.size())));
        int made = LZ4_compress_default(block.data(), packed.data(), static_cast<int>(block.size()),
                                        static_cast<int>(packed.size()));
        Append(&out, static_cast<uint32_t>(made));
        out.append(packed.data(), static_cast<size_t>(made));
      }
      break;
  }
  Append(&out, size);
  return out;
}

std::string MakeBzImage(std::string_view packed_payload, bool header_says_payload) {
  constexpr size_t kSetupSectors = 3;
  constexpr size_t kStart = (kSetupSectors + 1) * 512;
  constexpr uint32_t kPayloadOffset = 128;  // The decompressor's code comes first.
  std::string image(kStart + kPayloadOffset, '\0');
  image[0x1f1] = kSetupSectors;
  memcpy(image.data() + 0x202, "HdrS", 4);
  uint16_t protocol = header_says_payload ? 0x020f : 0x0204;
  memcpy(image.data() + 0x206, &protocol, 2);
  uint32_t length = static_cast<uint32_t>(packed_payload.size());
  if (header_says_payload) {
    memcpy(image.data() + 0x248, &kPayloadOffset, 4);
    memcpy(image.data() + 0x24c, &length, 4);
  }
  image.append(packed_payload);
  return image.append(512, '\0');
}

namespace {

std::string MakeArchive(const TestFiles& files, Compression compression,
                        int (*set_format)(archive*)) {
  std::string out(1 << 16, '\0');
  for (const auto& [path, content] : files) out.resize(out.size() + content.size() + 4096);
  size_t used = 0;
  archive* writer = archive_write_new();
  set_format(writer);
  if (compression == Compression::kXz) archive_write_add_filter_xz(writer);
  if (compression == Compression::kZstd) archive_write_add_filter_zstd(writer);
  if (compression == Compression::kGzip) archive_write_add_filter_gzip(writer);
  archive_write_open_memory(writer, out.data(), out.size(), &used);
  for (const auto& [path, content] : files) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, path.c_str());
    archive_entry_set_size(entry, static_cast<la_int64_t>(content.size()));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    KTSTR_CHECK(archive_write_header(writer, entry) == ARCHIVE_OK);
    archive_write_data(writer, content.data(), content.size());
    archive_entry_free(entry);
  }
  KTSTR_CHECK(archive_write_close(writer) == ARCHIVE_OK);
  archive_write_free(writer);
  out.resize(used);
  return out;
}

void AppendBigEndian(std::string* out, size_t number) {
  for (int shift : {24, 16, 8, 0}) out->push_back(static_cast<char>(number >> shift & 0xff));
}

// A header of an RPM package that has only texts (type 6).
std::string MakeRpmSection(const std::vector<std::pair<uint32_t, std::string>>& texts) {
  std::string entries, data;
  for (const auto& [tag, text] : texts) {
    for (size_t number : {size_t{tag}, size_t{6}, data.size(), size_t{1}}) {
      AppendBigEndian(&entries, number);
    }
    data += text + '\0';
  }
  std::string section = "\x8e\xad\xe8\x01" + std::string(4, '\0');
  AppendBigEndian(&section, texts.size());
  AppendBigEndian(&section, data.size());
  return section + entries + data;
}

}  // namespace

std::string MakeTar(const TestFiles& files, Compression compression) {
  return MakeArchive(files, compression, &archive_write_set_format_ustar);
}

std::string MakeCpio(const TestFiles& files, Compression compression) {
  return MakeArchive(files, compression, &archive_write_set_format_cpio_newc);
}

std::string MakeRpm(const TestRpm& rpm) {
  std::string out = "\xed\xab\xee\xdb\x03" + std::string(91, '\0');  // The lead.
  const std::string signature = MakeRpmSection({{269, "0123456789"}});
  out += signature + std::string((8 - signature.size() % 8) % 8, '\0');
  out += MakeRpmSection({{1000, rpm.name},
                         {1001, rpm.version},
                         {1002, rpm.release},
                         {1022, rpm.architecture},
                         {1124, "cpio"},
                         {1125, rpm.compressor}});
  return out + MakeCpio(rpm.files, rpm.compression);
}

std::string MakePacman(const std::string& info, TestFiles files, Compression compression) {
  if (!info.empty()) files.insert(files.begin(), {".PKGINFO", info});
  return MakeTar(files, compression);
}

std::string MakeAr(const TestFiles& members) {
  std::string ar = "!<arch>\n";
  for (const auto& [name, content] : members) {
    absl::StrAppendFormat(&ar, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644",
                          content.size());
    ar += content;
    if (content.size() % 2 != 0) ar.push_back('\n');
  }
  return ar;
}

std::string MakeDeb(const TestDeb& deb) {
  std::string control = absl::StrCat(
      "Package: ", deb.package, "\nVersion: ", deb.version, "\nArchitecture: ", deb.architecture,
      "\nMaintainer: Test <t@example.org>\n", deb.extra_control, "Description: for a test\n");
  const char* suffix = deb.compression == Compression::kXz     ? ".xz"
                       : deb.compression == Compression::kZstd ? ".zst"
                       : deb.compression == Compression::kGzip ? ".gz"
                                                               : "";
  return MakeAr(
      {{"debian-binary", "2.0\n"},
       {absl::StrCat("control.tar", suffix), MakeTar({{"./control", control}}, deb.compression)},
       {absl::StrCat("data.tar", suffix), MakeTar(deb.files, deb.compression)}});
}

base::UniqueFd FdOf(std::string_view data) {
  absl::StatusOr<base::UniqueFd> fd = base::MakeMemfd("test", 0);
  KTSTR_CHECK(fd.ok());
  KTSTR_CHECK(base::WriteAll(fd->get(), data, "memfd").ok());
  return *std::move(fd);
}

}  // namespace ktstr::cache
