// SPDX-License-Identifier: Apache-2.0
//
// Reads the kernel's log (/dev/kmsg), for one thing the reason why the kernel disabled the
// scheduler. One thread.

#ifndef KTSTR_GUEST_KMSG_H_
#define KTSTR_GUEST_KMSG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/head_tail.h"

namespace ktstr::guest {

// The text of one record of /dev/kmsg ("6,1234,5678,-;TEXT\n KEY=value\n"); empty when `record` is
// none, or when a program wrote it. /dev/kmsg writes a control character, a backslash and each byte
// above 126 as "\xHH" (kernel Documentation/ABI/testing/dev-kmsg): KmsgText() turns these back into
// bytes, also into invalid UTF-8. A backslash that begins no such escape stays as it is.
std::string KmsgText(std::string_view record);

// Follows the log and keeps the paragraph in which the kernel disabled a sched_ext scheduler:
//   sched_ext: BPF scheduler "x" disabled (runnable task stall)
//   sched_ext: x: worker[123] failed to run for 30.004s
//      scx_watchdog_workfn+0x…
// Of a long paragraph it keeps the first 12 lines and the last 12, each of at most 1 KiB.
//
// With `follow_restarts`, a scheduler that the kernel has disabled without an error (by its own
// decision, or for scx_bpf_exit), and then enabled again, has restarted: the watcher forgets that
// paragraph.
class DisableWatcher {
 public:
  explicit DisableWatcher(bool follow_restarts = false) : follow_restarts_(follow_restarts) {}
  // Takes the text of the next log line.
  void Line(std::string_view text);

  // How often it has restarted.
  uint32_t restarts() const { return restarts_; }
  // Disabled in a way after which it may restart.
  bool may_restart() const {
    return follow_restarts_ && (reason_ == kDisabledByKernel || reason_ == kDisabledByItself);
  }
  // The log has shown that the kernel enabled one.
  bool enabled_seen() const { return enabled_seen_; }
  bool seen() const { return seen_; }
  // "runnable task stall"; empty until seen.
  const std::string& reason() const { return reason_; }
  // The lines, joined by newlines, with a line for those that are missing (base/head_tail.h).
  std::string detail() const { return lines_.Text(); }
  // True when the cause was the kernel and not the scheduler's own end.
  bool kernel_ejected() const { return seen() && reason_ != "unregistered from user space"; }

 private:
  // SCX_EXIT_UNREG_KERN in kernel/sched/ext.c.
  static constexpr std::string_view kDisabledByKernel = "unregistered from the main kernel";
  // SCX_EXIT_UNREG_BPF: it called scx_bpf_exit, which may carry the restart code.
  static constexpr std::string_view kDisabledByItself = "unregistered from BPF";

  const bool follow_restarts_;
  uint32_t restarts_ = 0;
  std::string reason_;
  static constexpr size_t kLines = 12;
  base::HeadTailLines lines_{kLines, kLines};
  bool seen_ = false;
  bool enabled_seen_ = false;
  bool in_paragraph_ = false;
};

class KmsgReader {
 public:
  // Starts at the log's end. Reads nothing when the file cannot be opened: the log only adds
  // detail.
  explicit KmsgReader(const std::string& path);
  // Hands the text of each new record (KmsgText) to `take`; never blocks. Stops at 4096 records.
  void Drain(const std::function<void(std::string_view)>& take);

 private:
  base::UniqueFd fd_;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_KMSG_H_
