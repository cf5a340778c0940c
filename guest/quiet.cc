// SPDX-License-Identifier: Apache-2.0
#include "guest/quiet.h"

#include <ctime>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "guest/time.h"

namespace ktstr::guest {
namespace {

constexpr uint64_t kStepNs = 10 * kNsPerMs;
constexpr int kMaxSteps = 100;
// No multiple of a tick: the timers of other CPUs are not due at this moment.
constexpr uint64_t kLastNs = 1'370'000;

void SleepNs(uint64_t ns) {
  const timespec length = {.tv_sec = 0, .tv_nsec = static_cast<long>(ns)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &length, nullptr);
}

}  // namespace

int RunningTasks(std::string_view proc_stat) {
  constexpr std::string_view kKey = "\nprocs_running ";
  const size_t at = proc_stat.find(kKey);
  if (at == std::string_view::npos) return -1;
  const std::string_view value = proc_stat.substr(at + kKey.size());
  const size_t end = value.find('\n');
  int running = -1;
  if (!absl::SimpleAtoi(
          absl::string_view(value.data(), end == std::string_view::npos ? value.size() : end),
          &running))
    return -1;
  return running;
}

bool WaitUntilQuiet(const std::string& proc_stat) {
  bool quiet = false;
  for (int i = 0; i < kMaxSteps && !quiet; ++i) {
    SleepNs(kStepNs);
    absl::StatusOr<std::string> text = base::ReadFile(proc_stat);
    quiet = text.ok() && RunningTasks(*text) == 1;
  }
  SleepNs(kLastNs);
  return quiet;
}

int TakeOthersOffline(const std::string& cpus) {
  int gone = 0;
  for (int cpu = 1;; ++cpu) {
    const std::string directory = absl::StrCat(cpus, "/cpu", cpu);
    if (!base::Exists(directory)) return gone;
    if (base::WriteExisting(base::JoinPath(directory, "online"), "0").ok()) ++gone;
  }
}

}  // namespace ktstr::guest
