// SPDX-License-Identifier: Apache-2.0

#include "scenario/validate.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/cpu_list.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "scenario/checks.h"
#include "scenario/competition.h"
#include "scenario/cpuset.h"
#include "scenario/limits.h"
#include "scenario/perturb.h"
#include "scenario/plan.h"
#include "scenario/topology.h"
#include "scenario/work_types.h"

namespace ktstr::scenario {
namespace {

using base::ToAbsl;

constexpr size_t kMaxNameLength = LimitOf("Scenario.name").max;

// Files that the kernel makes in each cgroup begin like this: a child of that name could collide.
constexpr std::string_view kReservedPrefixes[] = {
    "cgroup.", "cpu.", "cpuset.", "memory.", "io.", "pids.", "hugetlb.", "rdma.", "misc.", "irq."};

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-';
}

bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNameLength && text != "." && text != ".." &&
         std::all_of(text.begin(), text.end(), IsNameCharacter);
}

class Validator {
 public:
  explicit Validator(const v1::Scenario& scenario) : scenario_(scenario) {}

  std::vector<Problem> Run() {
    CheckHead();
    CheckTopology();
    CheckScheduler();
    if (scenario_.step().empty()) Add("step", "scenario has no step; at least one is needed");
    // What is too much is not looked through.
    if (!CheckCounts()) return std::move(problems_);
    CheckNames();
    for (int s = 0; s < scenario_.step_size(); ++s) {
      for (int c = 0; c < scenario_.step(s).cgroup_size(); ++c) {
        CheckCgroup(scenario_.step(s).cgroup(c), CgroupField(s, c));
      }
    }
    CheckWorkerTotal();
    CheckHolds();
    CheckChecks();
    CheckPerturb();
    return std::move(problems_);
  }

 private:
  template <typename... Args>
  void Add(std::string field, const Args&... args) {
    Problem problem;
    problem.field = std::move(field);
    problem.message = absl::StrCat(args...);
    problems_.push_back(std::move(problem));
  }

  template <typename T>
  void CheckRange(std::string field, std::string_view name, T value, T low, T high) {
    if (value < low || value > high) {
      Add(std::move(field), ToAbsl(name), " ", value, " is out of range; allowed: ", low, " to ",
          high);
    }
  }

  bool CheckAbove(std::string field, std::string_view name, const Limit& limit, uint64_t value) {
    const std::string problem = AboveLimit(limit, value);
    if (!problem.empty()) Add(std::move(field), ToAbsl(name), ": ", problem);
    return problem.empty();
  }

  // Escapes in text format can make any bytes, which JSON and protobuf strings do not allow.
  void CheckUtf8(std::string field, std::string_view name, const std::string& value) {
    if (base::SanitizeUtf8(value) != value)
      Add(std::move(field), ToAbsl(name), " is not valid UTF-8");
  }

  static std::string CgroupField(int step, int cgroup) {
    return absl::StrCat("step[", step, "].cgroup[", cgroup, "]");
  }

  void CheckHead() {
    if (scenario_.name().empty()) {
      Add("name", "name is missing; 1 to 64 of [A-Za-z0-9_.-]");
    } else if (scenario_.name().size() > kMaxNameLength) {
      CheckAbove("name", "name", LimitOf("Scenario.name"), scenario_.name().size());
    } else if (!IsName(scenario_.name())) {
      Add("name", "name '", scenario_.name(), "' is not allowed; 1 to 64 of [A-Za-z0-9_.-]");
    }
    CheckAbove("description", "description", LimitOf("Scenario.description"),
               scenario_.description().size());
    CheckUtf8("description", "description", scenario_.description());
    if (scenario_.description().find('\n') != std::string::npos) {
      Add("description", "description has more than one line");
    }
    if (scenario_.memory_mb() != 0) {
      CheckRange<uint32_t>("memory_mb", "memory_mb", scenario_.memory_mb(), 256,
                           LimitOf("Scenario.memory_mb").max);
    }
    if (scenario_.vcpu_mips() != 0) {
      CheckRange<uint32_t>("vcpu_mips", "vcpu_mips", scenario_.vcpu_mips(), 2,
                           LimitOf("Scenario.vcpu_mips").max);
    }
    if (scenario_.duration_ms() != 0) {
      CheckRange<uint32_t>("duration_ms", "duration_ms", scenario_.duration_ms(), 100,
                           kMaxDurationMs);
    }
  }

  void CheckTopology() {
    for (const auto& [field, message] : Topology::ProblemsOf(scenario_.topology())) {
      Add(field.empty() ? "topology" : absl::StrCat("topology.", field), message);
    }
    if (auto topology = Topology::FromProto(scenario_.topology()); topology.ok())
      topology_ = *topology;
  }

  void CheckScheduler() {
    if (!scenario_.has_scheduler()) return;
    const v1::Scheduler& scheduler = scenario_.scheduler();
    if (scheduler.name().empty()) {
      Add("scheduler.name",
          "scheduler name is missing; leave the scheduler out to test the kernel's own (EEVDF)");
    } else if (scheduler.name().find('\0') != std::string::npos || scheduler.name().back() == '/') {
      Add("scheduler.name", "scheduler name is not the name or path of a program");
    }
    CheckAbove("scheduler.name", "scheduler name", LimitOf("Scheduler.name"),
               scheduler.name().size());
    CheckUtf8("scheduler.name", "scheduler name", scheduler.name());
    if (scheduler.attach_timeout_ms() != 0) {
      CheckRange<uint32_t>("scheduler.attach_timeout_ms", "attach_timeout_ms",
                           scheduler.attach_timeout_ms(), 1,
                           LimitOf("Scheduler.attach_timeout_ms").max);
    }
    if (scheduler.restart_timeout_ms() != 0) {
      CheckRange<uint32_t>("scheduler.restart_timeout_ms", "restart_timeout_ms",
                           scheduler.restart_timeout_ms(), 1,
                           LimitOf("Scheduler.restart_timeout_ms").max);
    }
    if (!CheckArgsTotal(scheduler)) return;
    for (int i = 0; i < scheduler.args_size(); ++i) {
      CheckUtf8(absl::StrCat("scheduler.args[", i, "]"), "scheduler argument", scheduler.args(i));
      if (scheduler.args(i).find('\0') != std::string::npos) {
        Add(absl::StrCat("scheduler.args[", i, "]"), "scheduler argument holds a NUL byte");
      }
    }
  }

  bool CheckArgsTotal(const v1::Scheduler& scheduler) {
    const Limit& count = LimitOf("Scheduler.args");
    const Limit& length = LimitOf("Scheduler.args", "bytes together");
    uint64_t bytes = 0;
    int last = 0;  // The argument that is too much.
    for (int i = 0; i < scheduler.args_size(); ++i) {
      if (bytes <= length.max) last = i;
      bytes += scheduler.args(i).size() + 1;
    }
    return CheckAbove(absl::StrCat("scheduler.args[", count.max, "]"), "scheduler args", count,
                      scheduler.args_size()) &&
           CheckAbove(absl::StrCat("scheduler.args[", last, "]"), "scheduler args", length, bytes);
  }

  // Each with the place of the first one that is too much.
  bool CheckCounts() {
    const Limit& most_cgroups = LimitOf("Step.cgroup");
    const Limit& most_work = LimitOf("Cgroup.work");
    uint64_t cgroups = 0;
    uint64_t works = 0;
    std::string last_cgroup, last_work;
    for (int s = 0; s < scenario_.step_size(); ++s) {
      for (int c = 0; c < scenario_.step(s).cgroup_size(); ++c) {
        if (++cgroups == most_cgroups.max + 1) last_cgroup = CgroupField(s, c);
        const auto in_cgroup = static_cast<uint64_t>(scenario_.step(s).cgroup(c).work_size());
        if (works <= most_work.max && works + in_cgroup > most_work.max) {
          last_work = absl::StrCat(CgroupField(s, c), ".work[", most_work.max - works, "]");
        }
        works += in_cgroup;
      }
    }
    return CheckAbove(absl::StrCat("step[", LimitOf("Scenario.step").max, "]"), "step",
                      LimitOf("Scenario.step"), scenario_.step_size()) &&
           CheckAbove(last_cgroup, "cgroup", most_cgroups, cgroups) &&
           CheckAbove(last_work, "work", most_work, works);
  }

  // Comes before CheckCgroup, which needs the names of all cgroups.
  void CheckNames() {
    for (int s = 0; s < scenario_.step_size(); ++s) {
      for (int c = 0; c < scenario_.step(s).cgroup_size(); ++c) {
        const v1::Cgroup& cgroup = scenario_.step(s).cgroup(c);
        const std::string field = absl::StrCat(CgroupField(s, c), ".name");
        if (!CheckCgroupName(cgroup.name(), field)) continue;
        if (!cgroups_.emplace(cgroup.name(), &cgroup).second) {
          Add(field, "cgroup '", cgroup.name(),
              "' exists already; names are unique in the scenario");
        }
      }
    }
  }

  bool CheckCgroupName(const std::string& name, const std::string& field) {
    if (name.empty()) {
      Add(field, "cgroup name is missing");
      return false;
    }
    if (!CheckAbove(field, "cgroup name", LimitOf("Cgroup.name"), name.size())) return false;
    for (absl::string_view part : absl::StrSplit(name, '/')) {
      if (!IsName(base::ToStd(part))) {
        Add(field, "cgroup name '", name,
            "' is not allowed; components are 1 to 64 of [A-Za-z0-9_.-], joined by '/'");
        return false;
      }
      for (std::string_view prefix : kReservedPrefixes) {
        if (part.substr(0, prefix.size()) == ToAbsl(prefix)) {
          Add(field, "cgroup name '", name, "' is not allowed: the kernel's own files begin with '",
              ToAbsl(prefix), "'");
          return false;
        }
      }
    }
    return true;
  }

  void CheckCgroup(const v1::Cgroup& cgroup, const std::string& field) {
    if (cgroup.has_cpuset() && topology_.has_value()) CheckCpuset(cgroup, field);
    if (cgroup.weight() != 0) {
      CheckRange<uint32_t>(absl::StrCat(field, ".weight"), "weight", cgroup.weight(), 1,
                           LimitOf("Cgroup.weight").max);
    }
    for (int w = 0; w < cgroup.work_size(); ++w) {
      CheckWork(cgroup.work(w), absl::StrCat(field, ".work[", w, "]"), cgroup.name());
    }
    // The order of the two in the scenario does not matter.
    const std::string parent = NearestDeclared(cgroup.name());
    if (!parent.empty() && !cgroups_[parent]->work().empty()) {
      Add(absl::StrCat(field, ".name"), "cgroup '", parent, "' has work and a child '",
          cgroup.name(),
          "'; cgroup v2 keeps processes in leaves: move the work into a child of its own");
    }
  }

  void CheckCpuset(const v1::Cgroup& cgroup, const std::string& field) {
    const std::string where = absl::StrCat(field, ".cpuset");
    auto cpus = ResolveCpuset(cgroup.cpuset(), *topology_);
    if (!cpus.ok()) {
      Add(where, "cgroup '", cgroup.name(),
          "': cpuset validation failed: ", cpus.status().message());
      return;
    }
    for (std::string at = NearestDeclared(cgroup.name()); !at.empty(); at = NearestDeclared(at)) {
      if (!cgroups_[at]->has_cpuset()) continue;
      auto allowed = ResolveCpuset(cgroups_[at]->cpuset(), *topology_);
      if (allowed.ok() &&
          !std::includes(allowed->begin(), allowed->end(), cpus->begin(), cpus->end())) {
        Add(where, "cgroup '", cgroup.name(), "': cpuset validation failed: CPUs ",
            base::FormatCpuList(*cpus), " are not all among the CPUs ",
            base::FormatCpuList(*allowed), " of the enclosing cgroup '", at, "' (topology ",
            topology_->Label(), ")");
      }
      return;
    }
  }

  // The closest enclosing cgroup that the scenario declares; "" when there is none.
  std::string NearestDeclared(std::string_view name) const {
    for (std::string_view at = ParentCgroup(name); !at.empty(); at = ParentCgroup(at)) {
      if (cgroups_.count(std::string(at)) != 0) return std::string(at);
    }
    return "";
  }

  void CheckWork(const v1::Work& work, const std::string& field, const std::string& cgroup) {
    const WorkType* type = WorkTypeOf(work);
    if (type == nullptr) {
      std::string names;
      for (const WorkType& known : scenario::WorkTypes()) {
        absl::StrAppend(&names, names.empty() ? "" : ", ", ToAbsl(known.name));
      }
      Add(field, "cgroup '", cgroup, "': work has no type; give one of ", names);
    } else if (const std::string problem = WorkerCountProblem(*type, work.workers());
               !problem.empty()) {
      Add(absl::StrCat(field, ".workers"), "cgroup '", cgroup, "': ", problem);
    }
    CheckRange<int32_t>(absl::StrCat(field, ".nice"), "nice", work.nice(), -20, 19);
    for (const WorkField& number : type == nullptr ? absl::Span<const WorkField>() : type->fields) {
      if (!IsSet(work, number)) continue;
      CheckRange<uint32_t>(absl::StrCat(field, ".", ToAbsl(type->name), ".", ToAbsl(number.name)),
                           number.name, WorkValue(work, number), number.low, number.high);
    }
    total_workers_ += work.workers();
  }

  void CheckWorkerTotal() {
    if (total_workers_ > kMaxWorkers) {
      Add("", "scenario has ", total_workers_, " workers; at most ", kMaxWorkers);
    }
  }

  void CheckHolds() {
    for (const auto& [step, message] : ResolveHolds(scenario_).problems) {
      Add(absl::StrCat("step[", step, "].hold"), message);
    }
  }

  void CheckChecks() {
    for (const Check& check : CheckTable()) {
      if (check.is_switch || !IsSet(scenario_.checks(), check.number)) continue;
      const double value = *ValueOf(scenario_.checks(), check.number);
      if (value >= check.low && value <= check.high) continue;  // False for NaN.
      Add(absl::StrCat("checks.", ToAbsl(check.field)), ToAbsl(check.field), " ",
          ValueText(check, value), " is out of range; allowed: ", RangeText(check));
    }
    CheckWeightError();
  }

  // Comes last: CompetitionOf needs a scenario that is valid otherwise.
  void CheckWeightError() {
    if (!IsOn(scenario_.checks(), v1::Checks::kMaxWeightErrorPctFieldNumber)) return;
    const std::string field = "checks.max_weight_error_pct";
    if (scenario_.perturb().has_pct()) {
      Add(field, "max_weight_error_pct excludes perturb.pct, which changes nice values at random");
    } else if (problems_.empty()) {
      const Competition competition = CompetitionOf(scenario_, *topology_);
      if (!competition.why_none.empty())
        Add(field, "max_weight_error_pct has nothing to judge: ", competition.why_none);
    }
  }

  void CheckPerturb() {
    for (const auto& [field, message] :
         PerturbProblems(scenario_, topology_.has_value() ? &*topology_ : nullptr)) {
      Add(field, message);
    }
  }

  const v1::Scenario& scenario_;
  std::vector<Problem> problems_;
  std::optional<Topology> topology_;
  std::map<std::string, const v1::Cgroup*> cgroups_;  // The first of each name.
  uint64_t total_workers_ = 0;
};

}  // namespace

std::vector<Problem> Validate(const v1::Scenario& scenario) { return Validator(scenario).Run(); }

absl::Status ValidationStatus(const v1::Scenario& scenario) {
  std::string text;
  for (const Problem& problem : Validate(scenario)) {
    absl::StrAppend(&text, text.empty() ? "" : "\n", problem.ToString());
  }
  return text.empty() ? absl::OkStatus() : absl::InvalidArgumentError(text);
}

}  // namespace ktstr::scenario
