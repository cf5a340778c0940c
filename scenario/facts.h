// SPDX-License-Identifier: Apache-2.0
//
// The observations of a run, sorted by kind. Internal to the evaluation: facts.cc collects,
// evaluate.cc and the *_checks.cc judge. The guest is untrusted: a report that cannot be true sets
// `impossible`. One thread.

#ifndef KTSTR_SCENARIO_FACTS_H_
#define KTSTR_SCENARIO_FACTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/finding_kinds.h"
#include "scenario/topology.h"
#include "scenario/work_types.h"

namespace ktstr::scenario {

// A fact with its place in the order of guest time: an earlier fact may cause a later one. Points
// into the list of observations.
template <typename T>
struct Seen {
  const T* fact = nullptr;
  size_t order = 0;
  explicit operator bool() const { return fact != nullptr; }
  const T* operator->() const { return fact; }
};

struct Facts {
  std::optional<Topology> topology;  // Of a valid scenario.
  std::vector<DeclaredWorker> workers;
  std::vector<Seen<v1::WorkerReport>> reports;  // By worker; null: none.
  std::vector<Seen<v1::WorkerLost>> losses;     // By worker; null: none.
  Seen<v1::SchedulerExit> death;                // The scheduler ended before the agent stopped it.
  Seen<v1::SchedulerExit> stop;                 // The agent stopped the scheduler.
  bool enabled = false;                         // The kernel reported the scheduler enabled.
  bool in_step = false;                         // A step was running at `death`.
  std::string scheduler_output;  // Beginning and end (base/head_tail.h), without escape sequences.
  std::optional<bool> switch_all;  // Of the enabled scheduler, as the kernel reports it.
  std::vector<Seen<v1::GuestError>> guest_errors;
  std::vector<Seen<v1::GuestOverrun>> overruns;  // An honest agent reports at most one.
  v1::Stage stage = v1::STAGE_UNSPECIFIED;       // How far the agent came, by its observations.
  Seen<v1::VmEnd> vm_end;                        // The first one.
  std::vector<Seen<v1::OperationFailed>> failed_operations;
  std::vector<Seen<v1::OutOfMemory>> out_of_memory;
  Seen<v1::GuestInfo> guest_info;
  // Disturbances that take a CPU: BURST, TIMERS, IPIS and HOTPLUG. Empty without Scenario.perturb.
  std::vector<const v1::Perturbation*> disturbances;
  std::vector<Seen<v1::SchedulerRestart>> restarts;
  uint32_t steps_ended = 0;
  std::string impossible;  // First contradiction; empty: none.
  size_t impossible_order = 0;
};

// `observations` must outlive the result.
Facts CollectFacts(const v1::Scenario& scenario, const std::vector<v1::Observation>& observations);

// Untrusted text as one line of at most 300 bytes without control characters.
std::string OneLine(std::string_view text);

// A finding, before consequences are marked.
struct Candidate {
  Candidate(FindingKind kind, std::string where, size_t order);

  v1::Finding finding;
  v1::Verdict verdict;  // Of the kind.
  size_t order;
  bool is_cause = false;      // Later findings may follow from it.
  bool may_follow = false;    // It follows from an earlier cause, if there is one.
  bool voids_others = false;  // Makes all other findings consequences.
};

// A finding at "guest" that is a cause.
Candidate MakeCause(FindingKind kind, std::string message, size_t order);

// Whether the scheduler under test scheduled anything at all.
void AddNotTested(const v1::Scenario& scenario, const Facts& facts,
                  std::vector<Candidate>* candidates);
// The checks of shares: max_spread_pct and max_weight_error_pct.
void AddShareFindings(const v1::Scenario& scenario, const Facts& facts,
                      std::vector<Candidate>* candidates);
// The other checks of workers, and workers that died.
void AddWorkerFindings(const v1::Scenario& scenario, const Facts& facts,
                       std::vector<Candidate>* candidates);
// How the scheduler ended: too early, or not in order when the agent stopped it.
void AddSchedulerFindings(const v1::Scenario& scenario, const Facts& facts,
                          std::vector<Candidate>* candidates);
// Limits in guest time, and how the virtual machine ended; how it ends after the agent has reported
// DONE does not count.
void AddVmEndFindings(const Facts& facts, std::vector<Candidate>* candidates);
// What went wrong with a machine after the agent had reported DONE, in one line; empty: nothing.
std::string AfterDoneText(const v1::VmEnd& end);
// What was wrong with the end of a scheduler that was told to stop; empty: nothing.
std::string StopFault(const v1::SchedulerExit& stop);
// Operations of the agent that failed, and whose fault that is.
void AddOperationFindings(const v1::Scenario& scenario, const Facts& facts,
                          std::vector<Candidate>* candidates);
// The guest's kernel killed processes because memory was used up.
void AddMemoryFindings(const Facts& facts, std::vector<Candidate>* candidates);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_FACTS_H_
