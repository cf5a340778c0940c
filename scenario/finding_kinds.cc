// SPDX-License-Identifier: Apache-2.0

#include "scenario/finding_kinds.h"

#include <cstddef>
#include <string>

namespace ktstr::scenario {
namespace {

using Kind = FindingKind;

// clang-format off
constexpr FindingKindInfo kKinds[] = {
    // kind, token, verdict, show_logs, stopped, threshold, meaning
    {Kind::kStarved, "STARVED", v1::FAIL, false, false, true, "a worker did no work"},
    {Kind::kStuck, "STUCK", v1::FAIL, false, false, true, "a worker did not run for too long"},
    {Kind::kUnfair, "UNFAIR", v1::FAIL, false, false, true,
     "workers of one `work` waited for a CPU for unlike times"},
    {Kind::kWeight, "WEIGHT", v1::FAIL, false, false, true,
     "shares of CPU time do not follow cpu.weight and nice"},
    {Kind::kIsolation, "ISOLATION", v1::FAIL, false, false, false,
     "a worker ran on a CPU outside its cpuset"},
    {Kind::kWorkerDied, "WORKER_DIED", v1::FAIL, false, false, false,
     "a worker ended without a report"},
    {Kind::kSchedulerDied, "SCHEDULER_DIED", v1::FAIL, true, false, false,
     "the scheduler ended, or the kernel ejected it, before it was told to stop"},
    {Kind::kSchedulerNotAttached, "SCHEDULER_NOT_ATTACHED", v1::FAIL, true, false, false,
     "the kernel did not report the scheduler enabled"},
    {Kind::kVerifierRejected, "VERIFIER_REJECTED", v1::FAIL, true, false, false,
     "the kernel's verifier refused a BPF program of the scheduler"},
    {Kind::kSchedulerStop, "SCHEDULER_STOP", v1::FAIL, true, false, false,
     "the scheduler did not end in order when it was told to stop"},
    {Kind::kOperationFailed, "OPERATION_FAILED", v1::FAIL, true, false, false,
     "a fork, a new cgroup or a move failed under the scheduler"},
    {Kind::kOutOfMemory, "OUT_OF_MEMORY", v1::ERROR, true, false, false,
     "the guest's memory was used up (FAIL when the scheduler was killed for it once it was enabled)"},
    {Kind::kKernelPanic, "KERNEL_PANIC", v1::FAIL, true, false, false, "the guest's kernel panicked"},
    {Kind::kGuestTimeout, "GUEST_TIMEOUT", v1::FAIL, true, false, false,
     "the guest did not finish within its limit of guest time"},
    {Kind::kGuestEnded, "GUEST_ENDED", v1::FAIL, true, false, false,
     "a program in the guest reset the machine or powered it off"},
    {Kind::kBadInput, "BAD_INPUT", v1::ERROR, false, false, false,
     "the scenario asks for something that its scheduler or kernel does not have"},
    {Kind::kHarness, "HARNESS", v1::ERROR, true, false, false, "the harness could not do its work"},
    {Kind::kEngine, "ENGINE", v1::ERROR, true, false, false,
     "the program that runs the virtual machine failed"},
    {Kind::kGuestChannel, "GUEST_CHANNEL", v1::ERROR, true, false, false,
     "what the guest sent breaks the rules of the channel or contradicts the scenario"},
    {Kind::kHostTimeout, "HOST_TIMEOUT", v1::ERROR, true, false, false,
     "the run did not finish within the host's time limit (`--timeout`)"},
    {Kind::kCancelled, "CANCELLED", v1::ERROR, true, true, false, "the user cancelled the run"},
    {Kind::kInterrupted, "INTERRUPTED", v1::ERROR, true, true, false,
     "the daemon or the virtual machine's process ended during the run"},
    {Kind::kNondeterminism, "NONDETERMINISM", v1::ERROR, true, false, false,
     "runs of one seed differ (`run --repeat`)"},
    {Kind::kNotTested, "NOT_TESTED", v1::INCONCLUSIVE, false, false, false,
     "the scheduler under test scheduled no worker, or was away most of the time, or there is no worker"},
    {Kind::kTooShort, "TOO_SHORT", v1::INCONCLUSIVE, false, false, false,
     "the workers ran for too short a time to judge a check"},
    {Kind::kUnconfirmed, "UNCONFIRMED", v1::INCONCLUSIVE, false, false, false,
     "a threshold was crossed that faster virtual CPUs do not cross, or turns were unbounded"},
};
// clang-format on

constexpr bool InOrder() {
  size_t at = 0;
  for (const FindingKindInfo& info : kKinds) {
    if (info.kind != static_cast<Kind>(at++)) return false;
  }
  return at == static_cast<size_t>(Kind::kUnconfirmed) + 1;
}
static_assert(InOrder(), "the table has one row for each FindingKind, in its order");

}  // namespace

absl::Span<const FindingKindInfo> FindingKinds() { return kKinds; }

const FindingKindInfo& InfoOf(FindingKind kind) { return kKinds[static_cast<size_t>(kind)]; }

const FindingKindInfo* InfoOf(const v1::Finding& finding) {
  for (const FindingKindInfo& info : kKinds) {
    if (info.token == finding.kind()) return &info;
  }
  return nullptr;
}

bool IsKind(const v1::Finding& finding, FindingKind kind) {
  return InfoOf(kind).token == finding.kind();
}

void SetKind(FindingKind kind, v1::Finding* finding) {
  finding->set_kind(std::string(InfoOf(kind).token));
}

}  // namespace ktstr::scenario
