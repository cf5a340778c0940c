// SPDX-License-Identifier: Apache-2.0
//
// Checks of workers. One finding per cgroup and kind, about the worst worker.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/cpu_list.h"
#include "base/string_view.h"
#include "base/subprocess.h"
#include "scenario/checks.h"
#include "scenario/competition.h"
#include "scenario/cpuset.h"
#include "scenario/enough_time.h"
#include "scenario/facts.h"
#include "scenario/plan.h"
#include "scenario/time_union.h"
#include "scenario/topology.h"

namespace ktstr::scenario {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

// What a worker contributes to the finding of its cgroup.
struct Hit {
  std::string message;
  std::string observed;
  std::string threshold;
  uint64_t severity = 0;
  uint64_t time_ms = 0;
  size_t order = 0;
  bool may_follow = true;
};

class WorkerChecks {
 public:
  WorkerChecks(const v1::Scenario& scenario, const Facts& facts)
      : scenario_(scenario), facts_(facts) {
    for (const DeclaredWorker& worker : facts.workers) ++size_[worker.cgroup];
    for (const v1::Perturbation* one : facts.disturbances) {
      // An impossible length from the guest must not overflow.
      const uint64_t from = one->begin_ns();
      const uint64_t to = from + std::min(one->length_ns(), ~from);
      (one->kind() == v1::Perturbation::HOTPLUG ? hotplug_ : disturbed_[one->cpu()]).Add(from, to);
    }
    hotplug_.Seal();
    for (auto& [cpu, taken] : disturbed_) taken.Seal(&hotplug_);
    if (!facts.topology.has_value()) return;
    allowed_ = AllowedCpus(scenario, *facts.topology);
    per_cpu_.resize(facts.topology->num_cpus());
    for (const v1::Step& step : scenario.step()) {
      for (const v1::Cgroup& cgroup : step.cgroup())
        if (cgroup.weight() != 0) weights_[cgroup.name()] = cgroup.weight();
    }
    heaviest_.resize(per_cpu_.size());
    std::map<std::string, double> by_cgroup;
    for (const DeclaredWorker& worker : facts.workers) {
      double& heaviest = by_cgroup[worker.cgroup];
      heaviest = std::max(heaviest, WeightOf(worker));
    }
    for (const auto& [cgroup, heaviest] : by_cgroup) {
      for (const int cpu : CpusOf(cgroup)) heaviest_[cpu] = std::max(heaviest_[cpu], heaviest);
    }
    for (const auto& [cgroup, workers] : size_) {
      const std::vector<int> cpus = CpusOf(cgroup);
      for (const int cpu : cpus) per_cpu_[cpu] += static_cast<double>(workers) / cpus.size();
    }
  }

  void Run(std::vector<Candidate>* out) {
    for (size_t i = 0; i < facts_.workers.size(); ++i) {
      if (facts_.losses[i]) CheckLoss(i, facts_.losses[i]);
      if (facts_.reports[i]) CheckReport(i, facts_.reports[i]);
    }
    for (const auto& [key, hit] : worst_) Emit(key.first, key.second, hit, out);
    for (auto& [cgroup, candidate] : too_short_) out->push_back(std::move(candidate));
    CheckTimeForGap(out);
  }

 private:
  // CPUs that the cgroup may use.
  std::vector<int> CpusOf(const std::string& cgroup) const {
    const auto it = allowed_.find(cgroup);
    if (it != allowed_.end()) return it->second;
    std::vector<int> all(per_cpu_.size());
    for (size_t cpu = 0; cpu < all.size(); ++cpu) all[cpu] = static_cast<int>(cpu);
    return all;
  }

  // From cpu.weight of its cgroups and nice; 1 when it sets neither.
  double WeightOf(const DeclaredWorker& worker) const {
    double weight = WeightOfNice(worker.nice) / static_cast<double>(WeightOfNice(0));
    for (std::string at = worker.cgroup; !at.empty(); at = std::string(ParentCgroup(at))) {
      const auto it = weights_.find(at);
      if (it != weights_.end()) weight *= it->second / 100.0;
    }
    return weight;
  }

  // Weight of the heaviest worker that may use the same CPUs, relative to this worker's; at least
  // 1.
  double Outweighed(const DeclaredWorker& worker) const {
    double heaviest = 0;
    for (const int cpu : CpusOf(worker.cgroup)) heaviest = std::max(heaviest, heaviest_[cpu]);
    return std::max(1.0, heaviest / WeightOf(worker));
  }

  // Workers per CPU, on the most crowded CPU of this cgroup.
  double Crowd(const std::string& cgroup) const {
    double crowd = 1;
    for (const int cpu : CpusOf(cgroup)) crowd = std::max(crowd, per_cpu_[cpu]);
    return crowd;
  }

  using Key = std::pair<FindingKind, std::string>;  // Kind, cgroup.

  void Add(FindingKind kind, size_t worker, Hit hit) {
    const Key key(kind, facts_.workers[worker].cgroup);
    const auto [it, fresh] = worst_.emplace(key, hit);
    ++count_[key];
    if (fresh) return;
    const size_t order = std::min(it->second.order, hit.order);
    const bool may_follow = it->second.may_follow && hit.may_follow;
    if (hit.severity > it->second.severity) it->second = std::move(hit);
    it->second.order = order;
    it->second.may_follow = may_follow;
  }

  void Emit(FindingKind kind, const std::string& cgroup, const Hit& hit,
            std::vector<Candidate>* out) {
    Candidate candidate(kind, absl::StrCat("cgroup ", cgroup), hit.order);
    candidate.finding.set_message(hit.message);
    if (const int count = count_[{kind, cgroup}]; count > 1) {
      absl::StrAppend(candidate.finding.mutable_message(), "; ", count, " of ", size_[cgroup],
                      " workers");
    }
    candidate.finding.set_observed(hit.observed);
    candidate.finding.set_threshold(hit.threshold);
    candidate.finding.set_guest_time_ms(hit.time_ms);
    candidate.may_follow = hit.may_follow;
    out->push_back(std::move(candidate));
  }

  std::string Name(size_t worker) const {
    return absl::StrCat("worker ", worker, " (", base::ToAbsl(facts_.workers[worker].work_type),
                        ")");
  }

  void CheckLoss(size_t worker, const Seen<v1::WorkerLost>& lost) {
    Hit hit;
    hit.order = lost.order;
    if (lost->silent()) {
      // Workers test for the stop signal all the time: one that lives and does not report did not
      // run.
      const uint32_t timeout_ms = ReportTimeoutMs(scenario_);
      hit.message = absl::StrCat("stuck ", timeout_ms, "ms: ", Name(worker),
                                 " lives, but did not run after the stop signal (threshold ",
                                 MaxGapMs(scenario_), "ms)");
      hit.observed = absl::StrCat(timeout_ms, "ms");
      hit.threshold = absl::StrCat(MaxGapMs(scenario_), "ms");
      hit.severity = timeout_ms;
      Add(FindingKind::kStuck, worker, std::move(hit));
      return;
    }
    base::ExitStatus status;
    status.code = lost->exit_code();
    status.signal = static_cast<int>(lost->signal());
    hit.message = absl::StrCat(Name(worker), " died without a report: ", status.ToString());
    hit.observed = status.ToString();
    Add(FindingKind::kWorkerDied, worker, std::move(hit));
  }

  // The worker reported only after the scheduler was gone.
  void CheckLate(size_t worker, const Seen<v1::WorkerReport>& report) {
    const uint32_t timeout_ms = ReportTimeoutMs(scenario_);
    Hit hit;
    hit.order = report.order;
    hit.message = absl::StrCat("stuck ", timeout_ms, "ms: ", Name(worker),
                               " did not run after the stop signal until the scheduler was gone "
                               "(threshold ",
                               MaxGapMs(scenario_), "ms)");
    hit.observed = absl::StrCat(timeout_ms, "ms");
    hit.threshold = absl::StrCat(MaxGapMs(scenario_), "ms");
    hit.severity = timeout_ms;
    Add(FindingKind::kStuck, worker, std::move(hit));
  }

  void CheckReport(size_t worker, const Seen<v1::WorkerReport>& report) {
    if (report->late()) CheckLate(worker, report);
    const bool starved = report->work_units() == 0;
    const bool check_starved = IsOn(scenario_.checks(), v1::Checks::kNotStarvedFieldNumber);
    last_order_ = std::max(last_order_, report.order);
    longest_ns_ = std::max(longest_ns_, report->wall_time_ns());
    if (starved && check_starved) {
      AddStarved(worker, report);
    } else {
      CheckGap(worker, report);
    }
    if (IsOn(scenario_.checks(), v1::Checks::kIsolationFieldNumber)) CheckIsolation(worker, report);
  }

  void AddStarved(size_t worker, const Seen<v1::WorkerReport>& report) {
    const std::string& cgroup = facts_.workers[worker].cgroup;
    const std::string seen =
        absl::StrCat(Name(worker), " did no work in ", report->wall_time_ns() / kNsPerMs, "ms");
    if (const uint64_t needed_ns = TimeForTurn(Crowd(cgroup), Outweighed(facts_.workers[worker]));
        report->wall_time_ns() < needed_ns) {
      const Check& check = CheckOf(v1::Checks::kNotStarvedFieldNumber);
      too_short_.emplace(
          cgroup, MakeTooShort(check, absl::StrCat("cgroup ", cgroup), report->wall_time_ns(),
                               needed_ns, seen, report.order));
      return;
    }
    Hit hit;
    hit.order = report.order;
    hit.message = seen;
    hit.observed = "0";
    hit.threshold = "1";
    Add(FindingKind::kStarved, worker, std::move(hit));
  }

  // No pause is longer than the time for which a worker ran.
  void CheckTimeForGap(std::vector<Candidate>* out) const {
    constexpr int kNumber = v1::Checks::kMaxGapMsFieldNumber;
    const uint64_t needed_ns = (MaxGapMs(scenario_) + uint64_t{1}) * kNsPerMs;
    if (!IsSet(scenario_.checks(), kNumber) || longest_ns_ == 0 || longest_ns_ >= needed_ns) return;
    out->push_back(
        MakeTooShort(CheckOf(kNumber), "scenario", longest_ns_, needed_ns, "", last_order_));
  }

  // The part of a pause that disturbances took: it does not count against the scheduler.
  // Disturbances of the CPU on which the worker continued count, and hotplug of any CPU, which
  // stops all CPUs.
  uint64_t DisturbedNs(const v1::WorkerReport& report) const {
    const uint64_t end = report.max_gap_at_ns();
    const uint64_t begin = end - std::min(end, report.max_gap_ns());
    const auto cpu = disturbed_.find(report.max_gap_cpu());
    return hotplug_.In(begin, end) + (cpu == disturbed_.end() ? 0 : cpu->second.In(begin, end));
  }

  void CheckGap(size_t worker, const Seen<v1::WorkerReport>& report) {
    const uint64_t disturbed_ns = DisturbedNs(*report.fact);
    const uint64_t gap_ms =
        (report->max_gap_ns() - std::min(report->max_gap_ns(), disturbed_ns)) / kNsPerMs;
    const uint32_t threshold_ms = MaxGapMs(scenario_);
    if (gap_ms <= threshold_ms) return;
    Hit hit;
    hit.order = report.order;
    hit.time_ms = report->max_gap_at_ns() / kNsPerMs;
    hit.message = absl::StrFormat("stuck %dms on cpu%d at +%dms (threshold %dms)", gap_ms,
                                  report->max_gap_cpu(), hit.time_ms, threshold_ms);
    if (disturbed_ns >= kNsPerMs) {
      absl::StrAppend(&hit.message, ", ", disturbed_ns / kNsPerMs, "ms of disturbances taken off");
    }
    hit.observed = absl::StrCat(gap_ms, "ms");
    hit.threshold = absl::StrCat(threshold_ms, "ms");
    hit.severity = gap_ms;
    // A pause that began before the scheduler's death is no consequence of it: both have the same
    // cause.
    const uint64_t end_ns = report->max_gap_at_ns();
    const uint64_t begin_ns = end_ns > report->max_gap_ns() ? end_ns - report->max_gap_ns() : 0;
    hit.may_follow = !facts_.death || begin_ns >= facts_.death->scenario_time_ns();
    Add(FindingKind::kStuck, worker, std::move(hit));
  }

  void CheckIsolation(size_t worker, const Seen<v1::WorkerReport>& report) {
    const auto it = allowed_.find(facts_.workers[worker].cgroup);
    if (it == allowed_.end()) return;
    std::set<int> outside;
    for (uint32_t cpu : report->cpus_used()) {
      const int number = static_cast<int>(std::min<uint32_t>(cpu, 65535));
      if (!std::binary_search(it->second.begin(), it->second.end(), number)) outside.insert(number);
    }
    if (outside.empty()) return;
    Hit hit;
    hit.order = report.order;
    hit.observed = base::FormatCpuList({outside.begin(), outside.end()});
    hit.threshold = base::FormatCpuList(it->second);
    hit.message = absl::StrCat(Name(worker), " ran on cpu ", hit.observed, " outside its cpuset ",
                               hit.threshold);
    hit.severity = outside.size();
    hit.may_follow = false;
    Add(FindingKind::kIsolation, worker, std::move(hit));
  }

  const v1::Scenario& scenario_;
  const Facts& facts_;
  std::map<std::string, int> size_;
  TimeUnion<> hotplug_;
  std::unordered_map<uint32_t, TimeUnion<>> disturbed_;  // By CPU, without hotplug.
  std::map<std::string, std::vector<int>> allowed_;
  std::map<std::string, uint32_t> weights_;  // cpu.weight, where it is set.
  std::vector<double> heaviest_;             // By CPU: the largest WeightOf.
  std::vector<double> per_cpu_;  // Workers, spread evenly over the CPUs of their cgroup.
  uint64_t longest_ns_ = 0;      // Longest time for which a worker ran.
  size_t last_order_ = 0;        // Of the reports.
  std::map<std::string, Candidate> too_short_;  // By cgroup.
  std::map<Key, Hit> worst_;
  std::map<Key, int> count_;
};

}  // namespace

void AddWorkerFindings(const v1::Scenario& scenario, const Facts& facts,
                       std::vector<Candidate>* candidates) {
  WorkerChecks(scenario, facts).Run(candidates);
}

}  // namespace ktstr::scenario
