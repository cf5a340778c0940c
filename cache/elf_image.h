// SPDX-License-Identifier: Apache-2.0
//
// The little of ELF that a kernel image needs: sections by name and notes, from untrusted bytes
// with every offset checked (System V ABI gABI 4.1, 64-bit little-endian only). Any thread.

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

  // `data` must outlive the result. InvalidArgument for what is not ELF64 little-endian, DataLoss
  // when it is cut short.
  static absl::StatusOr<ElfImage> Parse(std::string_view data);

  uint16_t type() const { return type_; }        // ET_EXEC, ...
  uint16_t machine() const { return machine_; }  // EM_X86_64, ...
  // Content; nullopt when there is no such section with content in the file.
  std::optional<std::string_view> Section(std::string_view name) const;
  // Of all note sections and segments; damaged ones end early.
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
