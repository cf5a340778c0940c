// SPDX-License-Identifier: Apache-2.0
//
// Reads what a kernel image needs of ELF (System V gABI 4.1, 64-bit little-endian): sections by
// name, and notes. The bytes are untrusted: every offset is checked. Any thread.

#ifndef KTSTR_CACHE_ELF_IMAGE_H_
#define KTSTR_CACHE_ELF_IMAGE_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ktstr::cache {

class ElfImage {
 public:
  struct Note {
    std::string_view owner;  // Without its NUL.
    uint32_t type;
    std::string_view description;
  };

  // `data` outlives the result. InvalidArgument for anything but 64-bit little-endian ELF, DataLoss
  // for a damaged or cut file.
  static absl::StatusOr<ElfImage> Parse(std::string_view data);

  uint16_t type() const { return type_; }        // ET_EXEC, ...
  uint16_t machine() const { return machine_; }  // EM_X86_64, ...
  // Content of a section; nullopt when the file has no such section or no content for it.
  std::optional<std::string_view> Section(std::string_view name) const;
  // Notes of all note sections and segments; of damaged ones, those before the damage.
  std::vector<Note> Notes() const;

 private:
  struct Part {
    std::string_view name;
    uint32_t type;
    std::string_view content;
  };
  ElfImage() = default;
  absl::Status ReadSections(std::string_view data, uint64_t offset, uint32_t count, uint32_t names);
  absl::Status ReadSegments(std::string_view data, uint64_t offset, uint32_t count);

  uint16_t type_ = 0;
  uint16_t machine_ = 0;
  std::vector<Part> sections_;
  std::vector<std::string_view> note_segments_;
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_ELF_IMAGE_H_
