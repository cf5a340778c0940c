// SPDX-License-Identifier: Apache-2.0
//
// The window (vmm/window_abi.h) as the guest sees it: found on the kernel command line, mapped
// through /dev/mem, checked once. The host writes it, and the agent trusts the host after the
// check. One thread.

#ifndef KTSTR_GUEST_WINDOW_H_
#define KTSTR_GUEST_WINDOW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "vmm/window_abi.h"

namespace ktstr::guest {

struct WindowRange {
  uint64_t address = 0;
  uint64_t size = 0;
};

// From "… ktstr.window=0xADDR,0xSIZE …". NotFound when the key is missing; InvalidArgument when the
// value is no such pair, or is not aligned to pages.
absl::StatusOr<WindowRange> ParseWindowRange(std::string_view cmdline);

class Window {
 public:
  // Maps `range` of `path` (/dev/mem; a plain file in tests) and checks the header.
  static absl::StatusOr<Window> Map(const std::string& path, WindowRange range);
  Window(Window&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Window& operator=(Window&&) = delete;
  ~Window();

  window::WindowHeader& header() const { return *reinterpret_cast<window::WindowHeader*>(base_); }
  char* ring() const { return base_ + window::kRingOffset; }
  // The host wants the machine to stand still when the agent is ready.
  bool stop_at_ready() const { return (header().flags & window::kFlagStopAtReady) != 0; }
  // Only after Ready or Attached: the host may write the bundle and its size while the guest stands
  // still there.
  absl::StatusOr<std::string_view> Bundle() const;

 private:
  Window(char* base, uint64_t size) : base_(base), size_(size) {}
  absl::Status Check() const;

  char* base_;
  uint64_t size_;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_WINDOW_H_
