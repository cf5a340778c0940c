// SPDX-License-Identifier: Apache-2.0
//
// Every limit on what a client sends to the daemon, in one table. The validator of scenarios
// (client and daemon), the daemon and the sources of kernels read it; docs/limits.md shows it
// (tests compare them, and look each field up in the protos).
//
// To add a limit: a row here, a row in docs/limits.md, the code that checks it, and its entry in
// daemon/limits_test.cc, which tries every row at the limit and one beyond.

#ifndef KTSTR_SCENARIO_LIMITS_H_
#define KTSTR_SCENARIO_LIMITS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace ktstr::scenario {

struct Limit {
  // "Message.field" of proto/ktstr/v1; empty: of every message.
  std::string_view field;
  uint64_t max;
  // What is counted, as messages print it: "bytes", "files"; empty: the field's own value.
  std::string_view unit;
};

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kHourMs = 3'600'000;

// clang-format off
inline constexpr Limit kLimits[] = {
    {"", 4 * kMiB, "bytes"},
    {"HandshakeRequest.client_version", 256, "bytes"},
    {"FindMissingBlobsRequest.sha256", 4096, "names"},
    {"PutBlobRequest.size", 512 * kMiB, "bytes"},
    {"PutBlobRequest.data", kMiB, "bytes"},

    {"Scenario.name", 64, "bytes"},
    {"Scenario.description", 1024, "bytes"},
    {"Scenario.memory_mb", 16384, ""},
    {"Scenario.vcpu_mips", 1000, ""},
    {"Scenario.duration_ms", kHourMs, ""},
    {"Scenario.step", 1000, "steps"},
    {"Scenario.seed_fork", 4, "seed forks"},
    {"Step.cgroup", 1024, "cgroups in all steps"},
    {"Cgroup.name", 255, "bytes"},
    {"Cgroup.weight", 10000, ""},
    {"Cgroup.work", 4096, "work entries in all"},
    {"Cpuset.Exact.cpus", 4096, "bytes"},
    {"Work.workers", 1024, ""},
    {"Work.workers", 4096, "workers in all"},
    {"Scheduler.name", 1024, "bytes"},
    {"Scheduler.args", 1024, "arguments"},
    {"Scheduler.args", 32 * kKiB, "bytes together"},
    {"Scheduler.attach_timeout_ms", kHourMs, ""},
    {"Scheduler.restart_timeout_ms", kHourMs, ""},
    {"Perturb.intensity", 3, ""},
    {"Perturb.delay_point", 8, "delay points"},
    {"Perturb.Pct.change_points", 8, ""},
    {"Perturb.DelayPoint.callback", 64, "bytes"},
    {"Perturb.DelayPoint.max_us", 10'000, ""},
    {"Perturb.DelayPoint.one_in", 1'000'000, ""},
    {"SeedFork.at_ms", kHourMs, ""},

    {"RunSpec.kernel", 256, "bytes"},
    {"RunSpec.files", 1024, "files"},
    {"RunSpec.files", 1024 * kMiB, "bytes together"},
    {"RunSpec.timeout_ms", 24 * kHourMs, ""},
    {"RunSpec.vcpu_turn_us", 100'000, ""},
    {"RunSpec.reproduction", 64 * kKiB, "bytes"},
    {"FileRef.guest_path", 1024, "bytes"},
    {"FileRef.guest_path", 32, "components"},
    {"FileRef.guest_path", 255, "bytes of a component"},
    {"FileRef.size", 512 * kMiB, "bytes"},
    {"Reproduction.scheduler_args", 1024, "arguments"},
    {"Reproduction.seed_forks", 4, "seed forks"},
    {"Reproduction.sets", 256, "overrides"},

    {"WatchRunsRequest.run_id", 10'000, "runs of one stream"},
    {"CancelRunRequest.reason", 256, "bytes"},

    {"ImportKernelRequest.header", 16, "files"},
    {"ImportKernelRequest.data", kMiB, "bytes"},
    {"ImportKernelRequest.ImportHeader.file_name", 255, "bytes"},
    {"ImportKernelRequest.ImportHeader.size", 2048 * kMiB, "bytes together"},
    {"ImportKernelRequest.ImportHeader.config", 2 * kMiB, "bytes"},
    {"FetchKernelRequest.source", 128, "bytes"},
    {"FetchKernelRequest.suites", 8, "suites"},
    {"FetchKernelRequest.suites", 128, "bytes of a suite"},
};
// clang-format on

// The row of a field; of several, the one that counts `unit`. Does not compile without such a row.
consteval const Limit& LimitOf(std::string_view field, std::string_view unit = {}) {
  for (const Limit& limit : kLimits) {
    if (limit.field == field && (unit.empty() || limit.unit == unit)) return limit;
  }
  throw "no such limit";
}

// What a row says of a value above it: "1025 files, at most 1024"; empty within the limit.
std::string AboveLimit(const Limit& limit, uint64_t value);
// The same as InvalidArgument, with the field as `name` puts it: "files: 1025 files, at most 1024".
absl::Status CheckLimit(const Limit& limit, std::string_view name, uint64_t value);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_LIMITS_H_
