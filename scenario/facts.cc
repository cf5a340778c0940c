// SPDX-License-Identifier: Apache-2.0

#include "scenario/facts.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/head_tail.h"
#include "base/utf8.h"

namespace ktstr::scenario {
namespace {

constexpr size_t kMaxLine = 300;

class Collector {
 public:
  explicit Collector(const v1::Scenario& scenario)
      : steps_(scenario.step_size()), perturbed_(scenario.has_perturb()) {
    if (auto topology = Topology::FromProto(scenario.topology()); topology.ok())
      facts_.topology = *std::move(topology);
    facts_.workers = DeclaredWorkers(scenario);
    facts_.reports.resize(facts_.workers.size());
    facts_.losses.resize(facts_.workers.size());
  }

  void Add(const v1::Observation& observation, size_t order) {
    order_ = order;
    switch (observation.fact_case()) {
      case v1::Observation::kStage:
        if (observation.stage().stage() == v1::SCHEDULER_ENABLED) facts_.enabled = true;
        if (v1::Stage_IsValid(observation.stage().stage())) {
          facts_.stage = std::max(facts_.stage, observation.stage().stage());
        }
        break;
      case v1::Observation::kSchedulerState:
        AddState(observation.scheduler_state());
        break;
      case v1::Observation::kSchedulerOutput:
        output_.Skip(observation.scheduler_output().dropped_bytes());
        output_.Append(observation.scheduler_output().data());
        break;
      case v1::Observation::kSchedulerExit:
        AddExit(observation.scheduler_exit());
        break;
      case v1::Observation::kStepMark:
        AddMark(observation.step_mark());
        break;
      case v1::Observation::kWorkerReport:
        AddWorker(observation.worker_report(), &facts_.reports);
        break;
      case v1::Observation::kWorkerLost:
        AddWorker(observation.worker_lost(), &facts_.losses);
        break;
      case v1::Observation::kGuestError:
        facts_.guest_errors.push_back({&observation.guest_error(), order});
        break;
      case v1::Observation::kGuestOverrun:
        facts_.overruns.push_back({&observation.guest_overrun(), order});
        break;
      case v1::Observation::kOperationFailed:
        facts_.failed_operations.push_back({&observation.operation_failed(), order});
        break;
      case v1::Observation::kOutOfMemory:
        facts_.out_of_memory.push_back({&observation.out_of_memory(), order});
        break;
      case v1::Observation::kVmEnd:
        if (!facts_.vm_end) facts_.vm_end = {&observation.vm_end(), order};
        break;
      case v1::Observation::kGuestInfo:
        if (!facts_.guest_info) facts_.guest_info = {&observation.guest_info(), order};
        break;
      case v1::Observation::kPerturbation:
        AddPerturbation(observation.perturbation());
        break;
      case v1::Observation::kSchedulerRestart:
        facts_.restarts.push_back({&observation.scheduler_restart(), order});
        break;
      case v1::Observation::kAttachProgress:
      case v1::Observation::kChannelStats:
      case v1::Observation::kPerturbationTotal:
      case v1::Observation::FACT_NOT_SET:
        break;
    }
  }

  Facts Take() {
    facts_.steps_ended = static_cast<uint32_t>(ended_.size());
    facts_.scheduler_output = base::WithoutEscapes(output_.Text());
    return std::move(facts_);
  }

 private:
  void Impossible(std::string what) {
    if (!facts_.impossible.empty()) return;
    facts_.impossible = std::move(what);
    facts_.impossible_order = order_;
  }

  void AddState(const v1::SchedulerState& state) {
    if (state.state() != "enabled") return;
    facts_.enabled = true;
    if (state.has_switch_all()) facts_.switch_all = state.switch_all();
  }

  void AddExit(const v1::SchedulerExit& exit) {
    if (exit.was_enabled()) facts_.enabled = true;
    Seen<v1::SchedulerExit>& slot =
        exit.cause() == v1::SchedulerExit::STOPPED ? facts_.stop : facts_.death;
    // After a stop or a first death, a further report is of the same end.
    if (slot || (&slot == &facts_.death && facts_.stop)) return;
    slot = {&exit, order_};
    if (&slot == &facts_.death) facts_.in_step = running_;
  }

  void AddPerturbation(const v1::Perturbation& perturbation) {
    if (!perturbed_) {
      Impossible("a disturbance that the scenario does not ask for");
    } else if (perturbation.kind() != v1::Perturbation::MOVE &&
               perturbation.kind() != v1::Perturbation::PRIORITY) {
      facts_.disturbances.push_back(&perturbation);
    }
  }

  void AddMark(const v1::StepMark& mark) {
    if (mark.step() >= steps_) {
      Impossible(absl::StrCat("mark of step ", mark.step(), " of ", steps_));
      return;
    }
    running_ = mark.edge() == v1::StepMark::BEGIN;
    if (mark.edge() == v1::StepMark::END) ended_.insert(mark.step());
  }

  template <typename T>
  void AddWorker(const T& fact, std::vector<Seen<T>>* slots) {
    if (fact.index() >= slots->size()) {
      Impossible(
          absl::StrCat("worker ", fact.index(), " reported, but the scenario has ", slots->size()));
      return;
    }
    if (facts_.reports[fact.index()] || facts_.losses[fact.index()]) {
      Impossible(absl::StrCat("worker ", fact.index(), " reported twice"));
      return;
    }
    (*slots)[fact.index()] = {&fact, order_};
  }

  const uint32_t steps_;
  const bool perturbed_;
  size_t order_ = 0;
  bool running_ = false;
  std::set<uint32_t> ended_;
  base::HeadTail output_{base::kOutputHead, base::kOutputTail};
  Facts facts_;
};

}  // namespace

Candidate::Candidate(FindingKind kind, std::string where, size_t order)
    : verdict(InfoOf(kind).verdict), order(order) {
  SetKind(kind, &finding);
  finding.set_where(std::move(where));
}

Facts CollectFacts(const v1::Scenario& scenario, const std::vector<v1::Observation>& observations) {
  // Sorts by guest time: the agent reports the scheduler's end once it is complete, with the time
  // at which it began. Facts of the host have no guest time and keep their place.
  std::vector<std::pair<uint64_t, const v1::Observation*>> in_time;
  uint64_t latest = 0;
  for (const v1::Observation& observation : observations) {
    const uint64_t time = observation.guest_time_ns();
    latest = std::max(latest, time);
    in_time.emplace_back(time != 0 ? time : latest, &observation);
  }
  std::stable_sort(in_time.begin(), in_time.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Collector collector(scenario);
  for (size_t i = 0; i < in_time.size(); ++i) collector.Add(*in_time[i].second, i);
  return collector.Take();
}

std::string OneLine(std::string_view text) { return base::OneLine(text, kMaxLine); }

Candidate MakeCause(FindingKind kind, std::string message, size_t order) {
  Candidate candidate(kind, "guest", order);
  candidate.finding.set_message(std::move(message));
  candidate.is_cause = true;
  return candidate;
}

}  // namespace ktstr::scenario
