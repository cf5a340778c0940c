// SPDX-License-Identifier: Apache-2.0
//
// One entry of the kernel cache as a directory: writes it and checks it. KernelCache holds the
// locks. Any thread.

#ifndef KTSTR_CACHE_KERNEL_ENTRY_H_
#define KTSTR_CACHE_KERNEL_ENTRY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ktstr/v1/kernel.pb.h"

namespace ktstr::cache {

inline constexpr uint32_t kMetadataSchema = 1;
inline constexpr char kMetadataFile[] = "metadata.json";
inline constexpr char kVmlinuxFile[] = "vmlinux";
inline constexpr char kConfigFile[] = "config";

struct EntryFile {
  std::string name;
  std::string_view data;
};

// Writes `files` into `dir`, which exists, appends them to `metadata.files`, and writes
// metadata.json. All is on the disk when it returns.
absl::Status WriteEntry(const std::string& dir, const std::vector<EntryFile>& files,
                        v1::KernelMetadata* metadata);
// Replaces metadata.json.
absl::Status WriteMetadata(const std::string& dir, const v1::KernelMetadata& metadata);
v1::KernelFile DescribeFile(const EntryFile& file);

struct EntryCheck {
  v1::KernelEntry entry;  // With error_kind and error as List gives them.
  // Sizes, digests, times and inodes of the files: the files are unchanged while it is the same.
  std::string stamp;
  bool ok() const { return entry.error_kind().empty(); }
};
// Checks metadata.json, and that the files exist with their sizes. `key` is the name of `dir`.
EntryCheck CheckEntry(const std::string& dir, const std::string& key);
// Reads all files of a sound `check`; makes it checksum_mismatch when a file's SHA-256 is not that
// of metadata.json.
void CheckContent(const std::string& dir, EntryCheck* check);

// Whether the text can be a key: 1 to 200 letters, digits and ".+~:_-", without a leading ".".
bool IsKernelKey(std::string_view key);
// `text`, cut to 200 characters, with "_" for every character that a key cannot have.
std::string MakeKernelKey(std::string_view text);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_ENTRY_H_
