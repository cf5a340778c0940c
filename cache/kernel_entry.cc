// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_entry.h"

#include <fcntl.h>
#include <google/protobuf/struct.pb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "scenario/json.h"

namespace ktstr::cache {
namespace {

constexpr size_t kMaxMetadataBytes = size_t{1} << 20;
constexpr size_t kMaxKeyLength = 200;  // NAME_MAX is 255; lock files add a suffix.

bool IsKeyCharacter(char c) {
  return isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view(".+~:_-").find(c) != std::string_view::npos;
}

absl::Status WriteFile(const std::string& path, std::string_view data) {
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd,
                         base::Open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644));
  KTSTR_RETURN_IF_ERROR(base::WriteAll(fd.get(), data, path));
  if (fsync(fd.get()) != 0) return base::ErrnoStatus(errno, absl::StrCat("fsync ", path));
  return absl::OkStatus();
}

void Fail(EntryCheck* check, const char* kind, const std::string& error) {
  check->entry.set_error_kind(kind);
  check->entry.set_error(error);
}

// Whether invalid JSON is cut: a string, object or array is open at its end.
bool EndsEarly(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  bool escaped = false;
  for (char c : json) {
    if (in_string) {
      if (escaped) {
        escaped = false;
      } else if (c == '\\') {
        escaped = true;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return in_string || depth > 0 || json.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

// The number `name` of `object`; 0 when there is none. Uses reflection, which is code of the
// library: under ThreadSanitizer the inline accessors of a map expect another layout than the
// distribution's protobuf has (map_field.h), and crash.
double NumberOf(const google::protobuf::Struct& object, const std::string& name) {
  const google::protobuf::Reflection* reflection = object.GetReflection();
  const google::protobuf::FieldDescriptor* fields =
      object.GetDescriptor()->FindFieldByName("fields");
  const google::protobuf::Descriptor* pair = fields->message_type();
  for (int i = 0; i < reflection->FieldSize(object, fields); ++i) {
    const google::protobuf::Message& entry = reflection->GetRepeatedMessage(object, fields, i);
    const google::protobuf::Reflection* of_entry = entry.GetReflection();
    if (of_entry->GetString(entry, pair->map_key()) != name) continue;
    const google::protobuf::Message& value = of_entry->GetMessage(entry, pair->map_value());
    return static_cast<const google::protobuf::Value&>(value).number_value();
  }
  return 0;
}

void ReadMetadata(const std::string& path, EntryCheck* check) {
  absl::StatusOr<std::string> json = base::ReadFile(path, kMaxMetadataBytes);
  if (!json.ok()) {
    bool missing = absl::IsNotFound(json.status());
    return Fail(check, missing ? "missing" : "unreadable",
                absl::StrCat("metadata.json ", missing ? "missing" : "unreadable", ": ",
                             json.status().message()));
  }
  google::protobuf::Struct any;
  if (absl::Status parsed = scenario::FromJson(*json, &any); !parsed.ok()) {
    if (EndsEarly(*json)) {
      return Fail(
          check, "truncated",
          absl::StrCat("metadata.json truncated: ", path, " ends after ", json->size(), " bytes"));
    }
    return Fail(check, "malformed",
                absl::StrCat("metadata.json malformed: ", path, ": ", parsed.message()));
  }
  if (NumberOf(any, "schemaVersion") != kMetadataSchema) {
    return Fail(check, "schema_drift",
                absl::StrCat("metadata.json has another schema: ", path, ": schemaVersion is not ",
                             kMetadataSchema));
  }
  v1::KernelMetadata metadata;
  if (absl::Status parsed = scenario::FromJson(*json, &metadata); !parsed.ok()) {
    return Fail(check, "parse_error",
                absl::StrCat("metadata.json cannot be understood: ", path, ": ", parsed.message()));
  }
  *check->entry.mutable_metadata() = metadata;
}

void CheckFile(const std::string& dir, const v1::KernelFile& file, EntryCheck* check) {
  if (!IsKernelKey(file.name())) {
    return Fail(check, "parse_error",
                absl::StrCat("metadata.json in ", dir, " names the file '", file.name(), "'"));
  }
  std::string path = base::JoinPath(dir, file.name());
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) {
    bool missing = errno == ENOENT;
    return Fail(check, missing ? "image_missing" : "unreadable",
                std::string(base::ErrnoStatus(errno, path).message()));
  }
  if (!S_ISREG(info.st_mode) || static_cast<uint64_t>(info.st_size) != file.size()) {
    return Fail(
        check, "checksum_mismatch",
        absl::StrCat(path, " has ", info.st_size, " bytes, metadata.json has ", file.size()));
  }
  check->entry.set_size_bytes(check->entry.size_bytes() + file.size());
  absl::StrAppend(&check->stamp, file.name(), ":", file.size(), ":", file.sha256(), ":",
                  info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec, ":", info.st_ino, "\n");
}

}  // namespace

bool IsKernelKey(std::string_view key) {
  return !key.empty() && key.size() <= kMaxKeyLength && key.front() != '.' &&
         std::all_of(key.begin(), key.end(), IsKeyCharacter);
}

std::string MakeKernelKey(std::string_view text) {
  std::string key(text.substr(0, kMaxKeyLength));
  for (char& c : key) {
    if (!IsKeyCharacter(c)) c = '_';
  }
  return key;
}

v1::KernelFile DescribeFile(const EntryFile& file) {
  v1::KernelFile description;
  description.set_name(file.name);
  description.set_size(file.data.size());
  description.set_sha256(base::Sha256Hex(file.data));
  return description;
}

absl::Status WriteMetadata(const std::string& dir, const v1::KernelMetadata& metadata) {
  KTSTR_ASSIGN_OR_RETURN(std::string json, scenario::ToJson(metadata, /*pretty=*/true));
  return base::WriteFileAtomic(base::JoinPath(dir, kMetadataFile), json);
}

absl::Status WriteEntry(const std::string& dir, const std::vector<EntryFile>& files,
                        v1::KernelMetadata* metadata) {
  for (const EntryFile& file : files) {
    KTSTR_RETURN_IF_ERROR(WriteFile(base::JoinPath(dir, file.name), file.data));
    *metadata->add_files() = DescribeFile(file);
  }
  return WriteMetadata(dir, *metadata);
}

EntryCheck CheckEntry(const std::string& dir, const std::string& key) {
  EntryCheck check;
  ReadMetadata(base::JoinPath(dir, kMetadataFile), &check);
  if (check.ok() && check.entry.metadata().key() != key) {
    Fail(&check, "unknown",
         absl::StrCat("metadata.json in ", dir, " is of the entry '", check.entry.metadata().key(),
                      "'"));
  }
  bool has_vmlinux = false;
  for (const v1::KernelFile& file : check.entry.metadata().files()) {
    if (check.ok()) CheckFile(dir, file, &check);
    has_vmlinux = has_vmlinux || file.name() == kVmlinuxFile;
    if (file.name() == kConfigFile) check.entry.set_has_config(true);
  }
  if (check.ok() && !has_vmlinux) {
    Fail(&check, "image_missing", absl::StrCat("metadata.json in ", dir, " lists no vmlinux"));
  }
  if (!check.ok()) {
    check.entry.clear_metadata();
    check.entry.clear_has_config();
    check.entry.mutable_metadata()->set_key(key);
    check.stamp.clear();
  }
  return check;
}

void CheckContent(const std::string& dir, EntryCheck* check) {
  const google::protobuf::RepeatedPtrField<v1::KernelFile> files = check->entry.metadata().files();
  for (const v1::KernelFile& file : files) {
    std::string path = base::JoinPath(dir, file.name());
    absl::StatusOr<base::UniqueFd> fd = base::Open(path, O_RDONLY | O_NOFOLLOW);
    absl::StatusOr<std::string> found =
        fd.ok() ? base::Sha256HexOfFd(fd->get(), path) : fd.status();
    if (!found.ok()) {
      Fail(check, "unreadable", std::string(found.status().message()));
    } else if (*found != file.sha256()) {
      Fail(check, "checksum_mismatch",
           absl::StrCat(path, " has SHA-256 ", *found, ", metadata.json has ", file.sha256()));
    }
    if (check->ok()) continue;
    std::string key = check->entry.metadata().key();
    check->entry.clear_metadata();
    check->entry.clear_has_config();
    check->entry.mutable_metadata()->set_key(key);
    check->stamp.clear();
    return;
  }
}

}  // namespace ktstr::cache
