// SPDX-License-Identifier: Apache-2.0
#include "guest/window.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::guest {
namespace {

constexpr uint64_t kPageSize = 4096;

std::string Hex(uint64_t value) { return absl::StrCat("0x", absl::Hex(value)); }

}  // namespace

absl::StatusOr<WindowRange> ParseWindowRange(std::string_view cmdline) {
  for (absl::string_view word : absl::StrSplit(absl::string_view(cmdline.data(), cmdline.size()),
                                               absl::ByAnyChar(" \t\n"), absl::SkipEmpty())) {
    const absl::string_view key = window::kCommandLineKey;
    if (word.substr(0, key.size()) != key) continue;
    const absl::string_view value = word.substr(key.size());
    const std::vector<absl::string_view> parts = absl::StrSplit(value, ',');
    WindowRange range;
    if (parts.size() != 2 || !absl::SimpleHexAtoi(parts[0], &range.address) ||
        !absl::SimpleHexAtoi(parts[1], &range.size)) {
      return absl::InvalidArgumentError(
          absl::StrCat("kernel command line: ", word, ": expected ", key, "0xADDR,0xSIZE"));
    }
    if (range.address % kPageSize != 0 || range.size % kPageSize != 0 || range.size == 0 ||
        range.address + range.size < range.address) {
      return absl::InvalidArgumentError(absl::StrCat(
          "kernel command line: ", word, ": address and size must be whole pages of 4096 bytes"));
    }
    return range;
  }
  return absl::NotFoundError(absl::StrCat("kernel command line has no ", window::kCommandLineKey,
                                          ": was this kernel started by ktstr-vm?"));
}

absl::StatusOr<Window> Window::Map(const std::string& path, WindowRange range) {
  if (range.size < window::kRingOffset + kPageSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("window of ", range.size, " bytes is too small for its header and a ring"));
  }
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, base::Open(path, O_RDWR));
  void* base = mmap(nullptr, range.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(),
                    static_cast<off_t>(range.address));
  if (base == MAP_FAILED) {
    return base::ErrnoStatus(
        errno, absl::StrCat("mmap of the window, ", Hex(range.size), " bytes at ",
                            Hex(range.address), " of ", path,
                            " (needs CONFIG_DEVMEM and a range that the kernel left alone)"));
  }
  // Workers and schedulers must not reach the channel by way of fork.
  madvise(base, range.size, MADV_DONTFORK);
  Window window(static_cast<char*>(base), range.size);
  KTSTR_RETURN_IF_ERROR(window.Check());
  return window;
}

Window::~Window() {
  if (base_ != nullptr) munmap(base_, size_);
}

absl::Status Window::Check() const {
  const window::WindowHeader& h = header();
  if (h.magic != window::kMagic) {
    return absl::FailedPreconditionError(
        absl::StrCat("window: magic is ", Hex(h.magic), ", expected ", Hex(window::kMagic)));
  }
  if (h.version != window::kVersion || h.header_size != sizeof(window::WindowHeader)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "window: layout version ", h.version, " (header of ", h.header_size,
        " bytes), but this agent speaks version ", window::kVersion, " (",
        sizeof(window::WindowHeader), " bytes): ktstr-vm and ktstr-agent are of different builds"));
  }
  if (h.window_size != size_ || h.ring_size < kPageSize || h.ring_size % 8 != 0 ||
      h.ring_size > size_ - window::kRingOffset) {
    return absl::FailedPreconditionError(absl::StrCat("window: sizes do not fit: window ",
                                                      h.window_size, " of ", size_, " bytes, ring ",
                                                      h.ring_size));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> Window::Bundle() const {
  const uint64_t offset = header().bundle_offset;
  const uint64_t bytes = header().bundle_size;
  if (bytes == 0) return absl::FailedPreconditionError("window: there is no bundle in it");
  if (offset < window::kRingOffset + header().ring_size || offset > size_ ||
      bytes > size_ - offset) {
    return absl::FailedPreconditionError(absl::StrCat("window: bundle of ", bytes, " bytes at ",
                                                      offset, " lies outside the window of ", size_,
                                                      " bytes"));
  }
  return std::string_view(base_ + offset, bytes);
}

}  // namespace ktstr::guest
