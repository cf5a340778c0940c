// SPDX-License-Identifier: Apache-2.0

#include "scenario/competition.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/string_view.h"
#include "scenario/cpuset.h"
#include "scenario/plan.h"
#include "scenario/work_types.h"

namespace ktstr::scenario {
namespace {

constexpr int kDefaultCgroupWeight = 100;
constexpr double kRounding = 1e-9;
constexpr std::string_view kComputing = "spin_wait";  // The work type that never sleeps.

// A cgroup, or a `work` of one, which has no children.
struct Node {
  std::string name;
  double weight = 0;
  std::vector<size_t> workers;  // Of a `work`; all start in the same step.
  int from_step = 0;
  std::vector<Node> children;
  double wants = 0;        // CPUs that it can use in the current step.
  double capacity = 0;     // CPUs that it gets in the current step.
  double expected = 0;     // CPU time over all steps, ns.
  bool contested = false;  // In some step its children wanted more CPUs than it had.
};

// Cgroups with workers that may use the same CPUs.
struct Arena {
  std::vector<int> cpus;
  std::vector<std::string> cgroups;
};

class Builder {
 public:
  Builder(const v1::Scenario& scenario, const Topology& topology)
      : workers_(DeclaredWorkers(scenario)), holds_(ResolveHolds(scenario)) {
    const std::map<std::string, std::vector<int>> allowed = AllowedCpus(scenario, topology);
    std::vector<int> all(topology.num_cpus());
    for (size_t cpu = 0; cpu < all.size(); ++cpu) all[cpu] = static_cast<int>(cpu);
    for (const v1::Step& step : scenario.step()) {
      for (const v1::Cgroup& cgroup : step.cgroup()) {
        weights_[cgroup.name()] = cgroup.weight() != 0 ? cgroup.weight() : kDefaultCgroupWeight;
        const auto it = allowed.find(cgroup.name());
        if (!cgroup.work().empty()) cpus_[cgroup.name()] = it == allowed.end() ? all : it->second;
      }
    }
    for (size_t i = 0; i < workers_.size(); ++i) of_cgroup_[workers_[i].cgroup].push_back(i);
  }

  Competition Run() {
    Competition competition;
    for (const Arena& arena : Arenas()) {
      const std::string problem = ProblemOf(arena);
      if (!problem.empty()) {
        competition.why_none = problem;
        continue;
      }
      Node root = TreeOf(arena);
      for (int step = 0; step < static_cast<int>(holds_.ns.size()); ++step) {
        Count(step, &root);
        root.capacity = static_cast<double>(arena.cpus.size());
        Share(step, &root);
      }
      Collect(root, "scenario", &competition);
    }
    if (!competition.contests.empty()) {
      competition.why_none.clear();
    } else if (competition.why_none.empty()) {
      competition.why_none = "no two cgroups or works want more CPUs than they have together";
    }
    return competition;
  }

 private:
  // Cgroups whose sets of CPUs overlap are in one arena.
  std::vector<Arena> Arenas() const {
    std::vector<Arena> arenas;
    for (const auto& [name, cpus] : cpus_) {
      Arena merged = {cpus, {name}};
      for (auto it = arenas.begin(); it != arenas.end();) {
        if (std::find_first_of(it->cpus.begin(), it->cpus.end(), merged.cpus.begin(),
                               merged.cpus.end()) == it->cpus.end()) {
          ++it;
          continue;
        }
        std::vector<int> both;
        std::set_union(it->cpus.begin(), it->cpus.end(), merged.cpus.begin(), merged.cpus.end(),
                       std::back_inserter(both));
        merged.cpus = std::move(both);
        merged.cgroups.insert(merged.cgroups.end(), it->cgroups.begin(), it->cgroups.end());
        it = arenas.erase(it);
      }
      std::sort(merged.cgroups.begin(), merged.cgroups.end());
      arenas.push_back(std::move(merged));
    }
    return arenas;
  }

  std::string ProblemOf(const Arena& arena) const {
    for (const std::string& name : arena.cgroups) {
      if (cpus_.at(name) != arena.cpus) {
        return absl::StrCat("cgroup '", name, "' shares only some of its CPUs with another");
      }
      for (const size_t worker : WorkersOf(name)) {
        if (workers_[worker].work_type != kComputing) {
          return absl::StrCat("cgroup '", name, "' has workers that sleep (",
                              base::ToAbsl(workers_[worker].work_type), ")");
        }
      }
      for (std::string_view at = ParentCgroup(name); !at.empty(); at = ParentCgroup(at)) {
        for (const auto& [other, cpus] : cpus_) {
          if (other.compare(0, at.size() + 1, absl::StrCat(base::ToAbsl(at), "/")) == 0 &&
              cpus != arena.cpus) {
            return absl::StrCat("the weight of cgroup '", base::ToAbsl(at),
                                "' is spread over several sets of CPUs");
          }
        }
      }
    }
    return "";
  }

  const std::vector<size_t>& WorkersOf(const std::string& cgroup) const {
    static const std::vector<size_t> kNone;
    const auto it = of_cgroup_.find(cgroup);
    return it == of_cgroup_.end() ? kNone : it->second;
  }

  Node TreeOf(const Arena& arena) const {
    Node root;
    for (const std::string& name : arena.cgroups) {
      Node* at = &root;
      for (size_t end = name.find('/');; end = name.find('/', end + 1)) {
        at = Child(name.substr(0, end), at);
        if (end == std::string::npos) break;
      }
      AddWorks(name, at);
    }
    return root;
  }

  Node* Child(const std::string& path, Node* parent) const {
    const auto weight = weights_.find(path);
    const int value = weight == weights_.end() ? kDefaultCgroupWeight : weight->second;
    const std::string name = absl::StrCat("cgroup ", path, " (weight ", value, ")");
    for (Node& child : parent->children) {
      if (child.name == name) return &child;
    }
    parent->children.push_back({.name = name, .weight = static_cast<double>(value)});
    return &parent->children.back();
  }

  void AddWorks(const std::string& cgroup, Node* node) const {
    std::map<int, std::vector<size_t>> works;
    for (const size_t worker : WorkersOf(cgroup)) works[workers_[worker].work].push_back(worker);
    int number = 0;
    for (auto& [work, workers] : works) {
      const int nice = workers_[workers.front()].nice;
      const int from_step = workers_[workers.front()].step;
      node->children.push_back(
          {.name = absl::StrCat("work ", ++number, " of cgroup ", cgroup, " (nice ", nice, ")"),
           .weight = static_cast<double>(WeightOfNice(nice)),
           .workers = std::move(workers),
           .from_step = from_step});
    }
  }

  // Counts the workers that run in this step; each can use one CPU.
  static void Count(int step, Node* node) {
    node->wants = node->from_step <= step ? static_cast<double>(node->workers.size()) : 0;
    for (Node& child : node->children) {
      Count(step, &child);
      node->wants += child.wants;
    }
  }

  // Divides node->capacity among the children of `node`, then goes down the tree.
  void Share(int step, Node* node) const {
    struct Claim {
      Node* child;
      double wants;
      double weight;
    };
    std::vector<Claim> open;
    double wanted = 0;
    for (Node& child : node->children) {
      const double wants = child.wants;
      child.capacity = 0;
      wanted += wants;
      // A cgroup's weight counts for all of it, a work's for each worker.
      const double weight = child.children.empty() ? child.weight * wants : child.weight;
      if (wants > 0) open.push_back({&child, wants, weight});
    }
    if (open.size() > 1 && wanted > node->capacity + kRounding) node->contested = true;
    double left = std::min(node->capacity, wanted);
    while (!open.empty()) {
      double weights = 0;
      for (const Claim& claim : open) weights += claim.weight;
      const double each = left / weights;
      const auto full = std::stable_partition(open.begin(), open.end(), [each](const Claim& claim) {
        return claim.weight * each < claim.wants - kRounding;
      });
      if (full == open.end()) {
        for (const Claim& claim : open) claim.child->capacity = claim.weight * each;
        break;
      }
      for (auto it = full; it != open.end(); ++it) {
        it->child->capacity = it->wants;
        left -= it->wants;
      }
      open.erase(full, open.end());
    }
    for (Node& child : node->children) {
      child.expected += child.capacity * static_cast<double>(holds_.ns[step]);
      if (!child.children.empty()) Share(step, &child);
    }
  }

  static void Gather(const Node& node, std::vector<size_t>* workers) {
    workers->insert(workers->end(), node.workers.begin(), node.workers.end());
    for (const Node& child : node.children) Gather(child, workers);
  }

  static void Collect(const Node& node, const std::string& where, Competition* out) {
    if (node.contested) {
      Contest contest = {where, {}};
      for (const Node& child : node.children) {
        Competitor one = {child.name, {}, child.expected};
        Gather(child, &one.workers);
        contest.competitors.push_back(std::move(one));
      }
      out->contests.push_back(std::move(contest));
    }
    for (const Node& child : node.children) {
      // Without the weight: "cgroup a".
      if (!child.children.empty())
        Collect(child, child.name.substr(0, child.name.rfind(" (")), out);
    }
  }

  const std::vector<DeclaredWorker> workers_;
  const Holds holds_;
  std::map<std::string, int> weights_;            // Of the declared cgroups.
  std::map<std::string, std::vector<int>> cpus_;  // Of cgroups with work, ascending.
  std::map<std::string, std::vector<size_t>> of_cgroup_;
};

}  // namespace

Competition CompetitionOf(const v1::Scenario& scenario, const Topology& topology) {
  return Builder(scenario, topology).Run();
}

int WeightOfNice(int nice) {
  // clang-format off
  static constexpr int kWeights[40] = {
      88761, 71755, 56483, 46273, 36291,  // -20
      29154, 23254, 18705, 14949, 11916,  // -15
      9548, 7620, 6100, 4904, 3906,       // -10
      3121, 2501, 1991, 1586, 1277,       // -5
      1024, 820, 655, 526, 423,           // 0
      335, 272, 215, 172, 137,            // 5
      110, 87, 70, 56, 45,                // 10
      36, 29, 23, 18, 15,                 // 15
  };
  // clang-format on
  return kWeights[std::clamp(nice, -20, 19) + 20];
}

}  // namespace ktstr::scenario
