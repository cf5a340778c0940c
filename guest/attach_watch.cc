// SPDX-License-Identifier: Apache-2.0
#include "guest/attach_watch.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/utf8.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

constexpr uint64_t kReportNs = 5 * kNsPerSecond;
constexpr int kMaxDepth = 4;  // Of children: a shell, a wrapper.

int Bpf(bpf_cmd command, bpf_attr* attr) {
  return static_cast<int>(syscall(SYS_bpf, command, attr, sizeof(*attr)));
}

// The id after `id`; 0: none.
uint32_t NextProgram(uint32_t id) {
  bpf_attr attr = {};
  attr.start_id = id;
  return Bpf(BPF_PROG_GET_NEXT_ID, &attr) == 0 ? attr.next_id : 0;
}

std::string NameOfProgram(uint32_t id) {
  bpf_attr attr = {};
  attr.prog_id = id;
  const base::UniqueFd fd(Bpf(BPF_PROG_GET_FD_BY_ID, &attr));
  if (!fd.valid()) return "";
  bpf_prog_info info = {};
  attr = {};
  attr.info.bpf_fd = fd.get();
  attr.info.info_len = sizeof(info);
  attr.info.info = reinterpret_cast<uint64_t>(&info);
  if (Bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) != 0) return "";
  return base::SanitizeUtf8({info.name, strnlen(info.name, sizeof(info.name))});
}

}  // namespace

void AttachWatch::Begin(uint64_t now_ns, uint64_t look_ns) {
  look_ns_ = look_ns;
  still_ns_ = idle_ns_ = 0;
  progress_.Clear();
  moved_cpu_ns_ = pid_ < 0 ? 0 : UseOf(pid_, 0).cpu_ns;
  progress_.set_cpu_ns(moved_cpu_ns_);
  looked_ns_ = reported_ns_ = moved_ns_ = now_ns;
  while (const uint32_t id = NextProgram(newest_id_)) newest_id_ = id;
}

bool AttachWatch::Poll(uint64_t now_ns) {
  if (now_ns - looked_ns_ < look_ns_) return false;
  const uint64_t length_ns = now_ns - looked_ns_;
  looked_ns_ = now_ns;
  const Use use = UseOf(pid_, 0);
  CountPrograms();
  const uint64_t before_ns = progress_.cpu_ns();
  progress_.set_cpu_ns(std::max(use.cpu_ns, before_ns));
  if (!use.runnable && progress_.cpu_ns() - before_ns < length_ns / 100) idle_ns_ += length_ns;
  if (use.runnable || progress_.cpu_ns() - moved_cpu_ns_ >= (now_ns - moved_ns_) / 100) {
    moved_ns_ = now_ns;
    moved_cpu_ns_ = progress_.cpu_ns();
  }
  still_ns_ = now_ns - moved_ns_;
  if (now_ns - reported_ns_ < kReportNs) return false;
  reported_ns_ = now_ns;
  return true;
}

// proc_pid_stat(5): "PID (NAME) STATE ...", where NAME may contain anything; utime, stime, cutime
// and cstime, in clock ticks, are the 12th to 15th word after it.
AttachWatch::Use AttachWatch::UseOf(pid_t pid, int depth) const {
  Use use;
  const std::string dir = absl::StrCat(proc_, "/", pid);
  const auto stat = base::ReadFile(absl::StrCat(dir, "/stat"));
  if (!stat.ok()) return use;
  const size_t name_end = stat->rfind(") ");
  if (name_end == std::string::npos) return use;
  const std::vector<std::string> words = absl::StrSplit(stat->substr(name_end + 2), ' ');
  if (words.size() < 15) return use;
  use.runnable = words[0] == "R";
  const auto ticks_per_second = static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
  for (size_t i = 11; i < 15; ++i) {
    uint64_t ticks = 0;
    if (absl::SimpleAtoi(words[i], &ticks)) use.cpu_ns += ticks * (kNsPerSecond / ticks_per_second);
  }
  if (depth == kMaxDepth) return use;
  // Of the main thread; the file is there with CONFIG_PROC_CHILDREN.
  const auto children = base::ReadFile(absl::StrCat(dir, "/task/", pid, "/children"));
  if (!children.ok()) return use;
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(*children, ' '))) {
    int child = 0;
    if (!absl::SimpleAtoi(word, &child)) continue;
    const Use more = UseOf(child, depth + 1);
    use.cpu_ns += more.cpu_ns;
    use.runnable |= more.runnable;
  }
  return use;
}

void AttachWatch::CountPrograms() {
  uint32_t newest = 0;
  while (const uint32_t id = NextProgram(newest_id_)) {
    newest_id_ = newest = id;
    progress_.set_programs(progress_.programs() + 1);
  }
  if (newest == 0) return;
  // Probes of libbpf have gone by now.
  if (const std::string name = NameOfProgram(newest); !name.empty())
    progress_.set_newest_program(name);
}

}  // namespace ktstr::guest
