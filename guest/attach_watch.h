// SPDX-License-Identifier: Apache-2.0
//
// Tells a scheduler whose attach takes long (the kernel's verifier works for it) from one that
// stands still: by the CPU time of its process, and by the BPF programs that were loaded since it
// started.

#ifndef KTSTR_GUEST_ATTACH_WATCH_H_
#define KTSTR_GUEST_ATTACH_WATCH_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>

#include "ktstr/v1/observation.pb.h"

namespace ktstr::guest {

class AttachWatch {
 public:
  explicit AttachWatch(std::string proc = "/proc") : proc_(std::move(proc)) {}

  // Before the process starts (again), and after it. It looks every `look_ns`.
  void Begin(uint64_t now_ns, uint64_t look_ns = 1'000'000'000);
  void Follow(pid_t pid) { pid_ = pid; }
  // True when there is progress to report: at most once in 5 s.
  bool Poll(uint64_t now_ns);
  // How long, at the last look, the process and its children have used less than a hundredth of a
  // CPU, ns. One that was runnable at a look has not stood still.
  uint64_t still_ns() const { return still_ns_; }
  // Of the time since Begin, what lay between two looks at which it stood still, ns.
  uint64_t idle_ns() const { return idle_ns_; }
  const v1::AttachProgress& progress() const { return progress_; }

 private:
  struct Use {
    uint64_t cpu_ns = 0;
    bool runnable = false;
  };
  Use UseOf(pid_t pid, int depth) const;
  void CountPrograms();

  const std::string proc_;
  pid_t pid_ = -1;
  uint64_t look_ns_ = 0;
  uint64_t looked_ns_ = 0;
  uint64_t reported_ns_ = 0;
  // When it last had used a hundredth of a CPU since the time before, and its CPU time then.
  uint64_t moved_ns_ = 0;
  uint64_t moved_cpu_ns_ = 0;
  uint64_t still_ns_ = 0;
  uint64_t idle_ns_ = 0;
  uint32_t newest_id_ = 0;  // Of the BPF programs so far.
  v1::AttachProgress progress_;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_ATTACH_WATCH_H_
