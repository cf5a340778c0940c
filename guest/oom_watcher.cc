// SPDX-License-Identifier: Apache-2.0
#include "guest/oom_watcher.h"

#include <sys/sysinfo.h>

#include <charconv>
#include <cstdint>
#include <system_error>
#include <utility>

#include "base/utf8.h"

namespace ktstr::guest {
namespace {

constexpr int kMaxReports = 8;
constexpr std::string_view kSubject = "Out of memory";
constexpr std::string_view kKilled = ": Killed process ";
constexpr std::string_view kAfterName = ") total-vm:";
constexpr size_t kMaxName = 15;  // TASK_COMM_LEN - 1

// The number at the start of `text`; 0 when there is none.
uint64_t Number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? value : 0;
}

// Value of " NAME:123kB" in bytes.
uint64_t FieldBytes(std::string_view line, std::string_view name) {
  constexpr uint64_t kMaxKb = UINT64_MAX >> 12;  // Sums of several do not wrap.
  const size_t at = line.find(name);
  if (at == std::string_view::npos) return 0;
  const uint64_t kb = Number(line.substr(at + name.size()));
  return kb > kMaxKb ? 0 : kb << 10;
}

uint64_t TotalMemory() {
  struct sysinfo info {};
  if (sysinfo(&info) != 0) return 0;
  return uint64_t{info.totalram} * info.mem_unit;
}

}  // namespace

std::optional<v1::OutOfMemory> ParseOomKill(std::string_view line) {
  if (line.substr(0, kSubject.size()) != kSubject) return std::nullopt;
  const size_t killed = line.find(kKilled);
  if (killed == std::string_view::npos) return std::nullopt;
  line.remove_prefix(killed + kKilled.size());
  const size_t name_begin = line.find(" (");
  // A name can hold parentheses.
  const size_t after = line.rfind(kAfterName);
  if (name_begin == std::string_view::npos || after == std::string_view::npos ||
      after < name_begin + 2) {
    return std::nullopt;
  }
  v1::OutOfMemory kill;
  kill.set_pid(static_cast<uint32_t>(Number(line)));
  if (kill.pid() == 0) return std::nullopt;
  const std::string_view name = line.substr(name_begin + 2, after - name_begin - 2);
  kill.set_process(base::SanitizeUtf8(name.substr(0, kMaxName)));
  const std::string_view sizes = line.substr(after);
  kill.set_resident_bytes(FieldBytes(sizes, " anon-rss:") + FieldBytes(sizes, " file-rss:") +
                          FieldBytes(sizes, " shmem-rss:"));
  return kill;
}

void OomWatcher::Poll(pid_t scheduler, bool during_steps) {
  kmsg_.Drain([&](std::string_view line) {
    if (reported_ >= kMaxReports) return;
    std::optional<v1::OutOfMemory> kill = ParseOomKill(line);
    if (!kill.has_value()) return;
    ++reported_;
    kill->set_scheduler(scheduler > 0 && kill->pid() == static_cast<uint32_t>(scheduler));
    kill->set_total_bytes(TotalMemory());
    kill->set_during_steps(during_steps);
    v1::Observation observation;
    *observation.mutable_out_of_memory() = *std::move(kill);
    reporter_->Report(std::move(observation));
  });
}

}  // namespace ktstr::guest
