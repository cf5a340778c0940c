// SPDX-License-Identifier: Apache-2.0
#include "cache/btf.h"

#include <linux/btf.h>

#include <cstdint>
#include <cstring>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ktstr::cache {
namespace {

// Kinds that may be newer than the build host's linux/btf.h.
constexpr uint32_t kKindDeclTag = 17;
constexpr uint32_t kKindTypeTag = 18;
constexpr uint32_t kKindEnum64 = 19;

absl::Status Damaged(const std::string& why) {
  return absl::DataLossError(absl::StrCat("the kernel's BTF is damaged: ", why));
}

// Bytes that follow a type's struct btf_type.
std::optional<size_t> ExtraBytes(uint32_t kind, size_t vlen) {
  switch (kind) {
    case BTF_KIND_INT:
    case BTF_KIND_VAR:
    case kKindDeclTag:
      return 4;
    case BTF_KIND_ARRAY:
      return sizeof(btf_array);
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
      return vlen * sizeof(btf_member);
    case BTF_KIND_ENUM:
      return vlen * sizeof(btf_enum);
    case BTF_KIND_FUNC_PROTO:
      return vlen * sizeof(btf_param);
    case BTF_KIND_DATASEC:
      return vlen * sizeof(btf_var_secinfo);
    case kKindEnum64:
      return vlen * 12;
    case BTF_KIND_PTR:
    case BTF_KIND_FWD:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_CONST:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case BTF_KIND_FLOAT:
    case kKindTypeTag:
      return 0;
    default:
      return std::nullopt;
  }
}

bool NameIs(std::string_view strings, uint32_t offset, std::string_view name) {
  return offset < strings.size() && strings.size() - offset > name.size() &&
         strings.substr(offset, name.size()) == name && strings[offset + name.size()] == '\0';
}

}  // namespace

absl::StatusOr<bool> BtfHasStruct(std::string_view btf, std::string_view name) {
  btf_header header;
  if (btf.size() < sizeof(header)) return Damaged("no header");
  memcpy(&header, btf.data(), sizeof(header));
  if (header.magic != BTF_MAGIC) return Damaged("bad magic number");
  if (header.hdr_len < sizeof(header) || header.hdr_len > btf.size()) {
    return Damaged(absl::StrCat("header of ", header.hdr_len, " bytes"));
  }
  std::string_view body = btf.substr(header.hdr_len);
  if (header.type_off > body.size() || header.type_len > body.size() - header.type_off ||
      header.str_off > body.size() || header.str_len > body.size() - header.str_off) {
    return Damaged("its tables lie outside of it");
  }
  std::string_view types = body.substr(header.type_off, header.type_len);
  std::string_view strings = body.substr(header.str_off, header.str_len);
  for (uint64_t id = 1; !types.empty(); ++id) {
    btf_type type;
    if (types.size() < sizeof(type)) return Damaged(absl::StrCat("type ", id, " is cut short"));
    memcpy(&type, types.data(), sizeof(type));
    uint32_t kind = BTF_INFO_KIND(type.info);
    std::optional<size_t> extra = ExtraBytes(kind, BTF_INFO_VLEN(type.info));
    if (!extra.has_value()) {
      return Damaged(absl::StrCat("type ", id, " has the unknown kind ", kind));
    }
    if (types.size() - sizeof(type) < *extra) {
      return Damaged(absl::StrCat("type ", id, " is cut short"));
    }
    if (kind == BTF_KIND_STRUCT && NameIs(strings, type.name_off, name)) return true;
    types.remove_prefix(sizeof(type) + *extra);
  }
  return false;
}

}  // namespace ktstr::cache
