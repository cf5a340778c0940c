// SPDX-License-Identifier: Apache-2.0
//
// One entry of the kernel cache as a directory: writing it, and telling whether it is sound.
// KernelCache holds the locks. Any thread.

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

// Writes and fsyncs `files`, then metadata.json with them appended to `metadata.files`, then the
// directory, which exists.
absl::Status WriteEntry(const std::string& dir, const std::vector<EntryFile>& files,
                        v1::KernelMetadata* metadata);
// Replaces metadata.json.
absl::Status WriteMetadata(const std::string& dir, const v1::KernelMetadata& metadata);
v1::KernelFile DescribeFile(const EntryFile& file);

struct EntryCheck {
  v1::KernelEntry entry;  // With error_kind and error as List gives them.
  std::string
      stamp;  // Sizes, times and inodes of the files: as long as it is the same, so are they.
  bool ok() const { return entry.error_kind().empty(); }
};
// metadata.json, and that the files are there with their sizes. `key` is the name of `dir`.
EntryCheck CheckEntry(const std::string& dir, const std::string& key);
// Adds checksum_mismatch to a sound `check` when a file's content is not what metadata.json says.
// Reads all of it.
void CheckContent(const std::string& dir, EntryCheck* check);

// A name of a directory under kernels/ as we give it: letters, digits, ".+~:_-", not beginning with
// ".".
bool IsKernelKey(std::string_view key);
// `text` with every other character replaced by "_".
std::string MakeKernelKey(std::string_view text);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_KERNEL_ENTRY_H_
