// SPDX-License-Identifier: Apache-2.0
#include "client/search/reducer.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/string_view.h"
#include "scenario/perturb.h"
#include "scenario/plan.h"
#include "scenario/topology.h"
#include "scenario/validate.h"
#include "scenario/work_types.h"

namespace ktstr::client {
namespace {

constexpr size_t kNumbersPass = 5;  // After the passes over lists.
constexpr size_t kPasses = 6;
constexpr size_t kNamesShown = 3;

constexpr uint32_t kShortestMs = 100;
constexpr uint32_t kGrainMs = 100;

// Scales holds in ms too: their sum must stay the duration.
void SetDuration(v1::Scenario* scenario, uint32_t ms) {
  const uint64_t before = scenario::DurationMs(*scenario);
  for (v1::Step& step : *scenario->mutable_step()) {
    if (!step.hold().has_ms()) continue;
    step.mutable_hold()->set_ms(
        std::max<uint32_t>(1, static_cast<uint32_t>(step.hold().ms() * uint64_t{ms} / before)));
  }
  scenario->set_duration_ms(ms);
}

// Turns a kind of disturbance off.
void TurnOff(v1::Perturbation::Kind kind, v1::Scenario* scenario) {
  v1::Perturb* perturb = scenario->mutable_perturb();
  switch (kind) {
    case v1::Perturbation::BURST:
      perturb->set_bursts(false);
      break;
    case v1::Perturbation::TIMERS:
      perturb->set_timers(false);
      break;
    case v1::Perturbation::IPIS:
      perturb->set_ipis(false);
      break;
    case v1::Perturbation::MOVE:
      perturb->set_moves(false);
      break;
    case v1::Perturbation::HOTPLUG:
      perturb->set_hotplug(false);
      break;
    default:
      break;
  }
}

const char* KindName(v1::Perturbation::Kind kind) {
  switch (kind) {
    case v1::Perturbation::BURST:
      return "bursts";
    case v1::Perturbation::TIMERS:
      return "timers";
    case v1::Perturbation::IPIS:
      return "ipis";
    case v1::Perturbation::MOVE:
      return "moves";
    case v1::Perturbation::HOTPLUG:
      return "hotplug";
    default:
      return "priorities";
  }
}

// The kinds of disturbances that are on. `scenario` is valid.
std::vector<v1::Perturbation::Kind> KindsOn(const v1::Scenario& scenario) {
  std::vector<v1::Perturbation::Kind> kinds;
  const auto topology = scenario::Topology::FromProto(scenario.topology());
  if (!scenario.has_perturb() || !topology.ok()) return kinds;
  const v1::GuestPerturb guest = scenario::MakeGuestPerturb(
      scenario, *topology, uint64_t{scenario::DurationMs(scenario)} * 1'000'000);
  for (const v1::GuestDisturbance& one : guest.disturbance()) kinds.push_back(one.kind());
  return kinds;
}

void RemoveElement(const google::protobuf::FieldDescriptor* field, int index,
                   v1::Perturb* perturb) {
  const google::protobuf::Reflection* reflection = perturb->GetReflection();
  // Swaps the element to the end, so that the others keep their order.
  for (int i = index; i + 1 < reflection->FieldSize(*perturb, field); ++i)
    reflection->SwapElements(perturb, field, i, i + 1);
  reflection->RemoveLast(perturb, field);
}

}  // namespace

std::vector<Reducer::Item> Reducer::Steps(const v1::Scenario& scenario) {
  std::vector<Item> items;
  for (int s = 0; s < scenario.step_size(); ++s) {
    items.push_back({absl::StrCat("step ", s + 1),
                     [s](v1::Scenario* to) { to->mutable_step()->DeleteSubrange(s, 1); }});
  }
  return items;
}

std::vector<Reducer::Item> Reducer::Cgroups(const v1::Scenario& scenario) {
  std::vector<Item> items;
  for (int s = 0; s < scenario.step_size(); ++s) {
    for (int c = 0; c < scenario.step(s).cgroup_size(); ++c) {
      items.push_back(
          {absl::StrCat("cgroup ", scenario.step(s).cgroup(c).name()), [s, c](v1::Scenario* to) {
             to->mutable_step(s)->mutable_cgroup()->DeleteSubrange(c, 1);
           }});
    }
  }
  return items;
}

std::vector<Reducer::Item> Reducer::Works(const v1::Scenario& scenario) {
  std::vector<Item> items;
  for (int s = 0; s < scenario.step_size(); ++s) {
    for (int c = 0; c < scenario.step(s).cgroup_size(); ++c) {
      const v1::Cgroup& cgroup = scenario.step(s).cgroup(c);
      for (int w = 0; w < cgroup.work_size(); ++w) {
        items.push_back(
            {absl::StrCat("work ", w + 1, " of ", cgroup.name()), [s, c, w](v1::Scenario* to) {
               to->mutable_step(s)->mutable_cgroup(c)->mutable_work()->DeleteSubrange(w, 1);
             }});
      }
    }
  }
  return items;
}

std::vector<Reducer::Item> Reducer::Settings(const v1::Scenario& scenario) {
  std::vector<Item> items;
  for (int s = 0; s < scenario.step_size(); ++s) {
    if (scenario.step(s).has_hold()) {
      items.push_back({absl::StrCat("hold of step ", s + 1),
                       [s](v1::Scenario* to) { to->mutable_step(s)->clear_hold(); }});
    }
    for (int c = 0; c < scenario.step(s).cgroup_size(); ++c) {
      const v1::Cgroup& cgroup = scenario.step(s).cgroup(c);
      const auto add = [&](const char* what, std::function<void(v1::Cgroup*)> clear) {
        items.push_back({absl::StrCat(what, " of ", cgroup.name()),
                         [s, c, clear = std::move(clear)](v1::Scenario* to) {
                           clear(to->mutable_step(s)->mutable_cgroup(c));
                         }});
      };
      if (cgroup.has_cpuset()) add("cpuset", [](v1::Cgroup* to) { to->clear_cpuset(); });
      if (cgroup.weight() != 0) add("weight", [](v1::Cgroup* to) { to->clear_weight(); });
      for (int w = 0; w < cgroup.work_size(); ++w) {
        if (cgroup.work(w).nice() != 0)
          add("nice", [w](v1::Cgroup* to) { to->mutable_work(w)->clear_nice(); });
      }
    }
  }
  return items;
}

std::vector<Reducer::Item> Reducer::Disturbances(const v1::Scenario& scenario) {
  std::vector<Item> items;
  for (int f = 0; f < scenario.seed_fork_size(); ++f) {
    items.push_back({absl::StrCat("seed fork ", f + 1),
                     [f](v1::Scenario* to) { to->mutable_seed_fork()->DeleteSubrange(f, 1); }});
  }
  if (!scenario.has_perturb()) return items;
  // First in the list, so that a candidate without all items removes it last.
  items.push_back({"disturbances", [](v1::Scenario* to) { to->clear_perturb(); }});
  if (scenario.perturb().has_pct()) {
    items.push_back(
        {"random priorities", [](v1::Scenario* to) { to->mutable_perturb()->clear_pct(); }});
  }
  for (v1::Perturbation::Kind kind : KindsOn(scenario)) {
    items.push_back({KindName(kind), [kind](v1::Scenario* to) { TurnOff(kind, to); }});
  }
  // Lists of disturbances, element by element.
  const google::protobuf::Descriptor* type = v1::Perturb::descriptor();
  for (int f = 0; f < type->field_count(); ++f) {
    const google::protobuf::FieldDescriptor* field = type->field(f);
    if (!field->is_repeated()) continue;
    const int size = v1::Perturb::GetReflection()->FieldSize(scenario.perturb(), field);
    for (int i = 0; i < size; ++i) {
      items.push_back({absl::StrCat(field->name(), " ", i + 1), [field, i](v1::Scenario* to) {
                         RemoveElement(field, i, to->mutable_perturb());
                       }});
    }
  }
  return items;
}

std::vector<Reducer::Number> Reducer::TopologyNumbers(const v1::Scenario& scenario) {
  const auto topology = scenario::Topology::FromProto(scenario.topology());
  if (!topology.ok()) return {};
  const auto number = [&](const char* name, int value, int factor,
                          void (v1::Topology::*set)(uint32_t)) {
    return Number{name, static_cast<uint32_t>(value), 1, 1,
                  [base = topology->ToProto(), factor, set](v1::Scenario* to, uint32_t n) {
                    *to->mutable_topology() = base;
                    (to->mutable_topology()->*set)(n * static_cast<uint32_t>(factor));
                  }};
  };
  const int nodes = topology->numa_nodes();
  const int per_node = topology->llcs() / nodes;
  std::vector<Number> numbers;
  // LLCs go with their node.
  numbers.push_back({"NUMA nodes", static_cast<uint32_t>(nodes), 1, 1,
                     [base = topology->ToProto(), per_node](v1::Scenario* to, uint32_t n) {
                       *to->mutable_topology() = base;
                       to->mutable_topology()->set_numa_nodes(n);
                       to->mutable_topology()->set_llcs(n * static_cast<uint32_t>(per_node));
                     }});
  numbers.push_back(number("LLCs of a node", per_node, nodes, &v1::Topology::set_llcs));
  numbers.push_back(
      number("cores of an LLC", topology->cores_per_llc(), 1, &v1::Topology::set_cores_per_llc));
  numbers.push_back(number("threads of a core", topology->threads_per_core(), 1,
                           &v1::Topology::set_threads_per_core));
  return numbers;
}

std::vector<Reducer::Number> Reducer::Numbers(const v1::Scenario& scenario) {
  // Workers come before durations: a short run may fail with many workers only.
  std::vector<Number> numbers, lengths;
  lengths.push_back(
      {"duration", scenario::DurationMs(scenario), kShortestMs, kGrainMs, &SetDuration});
  for (int s = 0; s < scenario.step_size(); ++s) {
    const v1::Step& step = scenario.step(s);
    if (step.hold().has_ms()) {
      lengths.push_back({absl::StrCat("hold of step ", s + 1), step.hold().ms(), 1, kGrainMs,
                         [s](v1::Scenario* to, uint32_t ms) {
                           to->mutable_step(s)->mutable_hold()->set_ms(ms);
                         }});
    }
    for (int c = 0; c < step.cgroup_size(); ++c) {
      for (int w = 0; w < step.cgroup(c).work_size(); ++w) {
        const v1::Work& work = step.cgroup(c).work(w);
        const uint32_t group = scenario::WorkTypeOf(work)->group_size;
        numbers.push_back({absl::StrCat("workers of ", step.cgroup(c).name()), work.workers(),
                           group, group, [s, c, w](v1::Scenario* to, uint32_t n) {
                             to->mutable_step(s)->mutable_cgroup(c)->mutable_work(w)->set_workers(
                                 n);
                           }});
      }
    }
  }
  const v1::Perturb& perturb = scenario.perturb();
  if (scenario.has_perturb()) {
    const uint32_t intensity =
        perturb.has_intensity() ? perturb.intensity() : scenario::kDefaultIntensity;
    numbers.push_back({"intensity", intensity, 0, 1, [](v1::Scenario* to, uint32_t n) {
                         to->mutable_perturb()->set_intensity(n);
                       }});
  }
  if (perturb.has_pct()) {
    const uint32_t points = perturb.pct().has_change_points() ? perturb.pct().change_points()
                                                              : scenario::kDefaultChangePoints;
    numbers.push_back({"change points", points, 0, 1, [](v1::Scenario* to, uint32_t n) {
                         to->mutable_perturb()->mutable_pct()->set_change_points(n);
                       }});
  }
  for (Number& number : lengths) numbers.push_back(std::move(number));
  for (Number& number : TopologyNumbers(scenario)) numbers.push_back(std::move(number));
  return numbers;
}

std::optional<v1::Scenario> Reducer::ProposeList(const std::vector<Item>& items) {
  if (items.empty()) return std::nullopt;
  if (chunk_ == 0) chunk_ = items.size();
  chunk_ = std::min(chunk_, items.size());
  while (at_ >= items.size()) {
    if (chunk_ == 1 && !sweep_helped_) return std::nullopt;
    chunk_ = (chunk_ + 1) / 2;
    at_ = 0;
    sweep_helped_ = false;
  }
  const size_t end = std::min(at_ + chunk_, items.size());
  v1::Scenario candidate = best_;
  std::vector<std::string> names;
  for (size_t i = end; i-- > at_;) items[i].remove(&candidate);
  for (size_t i = at_; i < end && names.size() < kNamesShown; ++i) names.push_back(items[i].name);
  if (end - at_ > names.size()) names.push_back(absl::StrCat(end - at_ - names.size(), " more"));
  change_ = absl::StrCat("without ", absl::StrJoin(names, ", "));
  return candidate;
}

std::optional<v1::Scenario> Reducer::ProposeNumber() {
  const std::vector<Number> numbers = Numbers(best_);
  for (; number_ < numbers.size(); ++number_, lost_at_.reset()) {
    const Number& number = numbers[number_];
    if (number.value <= number.low) continue;
    if (!lost_at_) {
      tried_ = number.low;
    } else {
      if (number.value - *lost_at_ <= number.grain) continue;
      // The middle, in whole grains above the value that does not fail.
      const uint32_t grains = (number.value - *lost_at_) / number.grain;
      tried_ = *lost_at_ + std::max<uint32_t>(1, grains / 2) * number.grain;
    }
    v1::Scenario candidate = best_;
    number.set(&candidate, tried_);
    change_ = absl::StrCat(number.name, " ", number.value, " to ", tried_);
    return candidate;
  }
  return std::nullopt;
}

std::optional<v1::Scenario> Reducer::Propose() {
  switch (pass_) {
    case 0:
      return ProposeList(Steps(best_));
    case 1:
      return ProposeList(Cgroups(best_));
    case 2:
      return ProposeList(Works(best_));
    case 3:
      return ProposeList(Disturbances(best_));
    case 4:
      return ProposeList(Settings(best_));
    default:
      return ProposeNumber();
  }
}

void Reducer::Advance(bool still_fails) {
  if (still_fails) round_helped_ = true;
  if (pass_ == kNumbersPass) {
    if (!still_fails) lost_at_ = tried_;
    return;
  }
  // After a removal the next items are at `at_` already.
  if (still_fails) {
    sweep_helped_ = true;
  } else {
    at_ += chunk_;
  }
}

bool Reducer::NextPass() {
  chunk_ = at_ = number_ = 0;
  sweep_helped_ = false;
  lost_at_.reset();
  if (++pass_ < kPasses) return true;
  pass_ = 0;
  return std::exchange(round_helped_, false);
}

std::optional<v1::Scenario> Reducer::Next() {
  while (true) {
    std::optional<v1::Scenario> proposed = Propose();
    if (!proposed) {
      if (!NextPass()) return std::nullopt;
      continue;
    }
    if (!scenario::Validate(*proposed).empty() ||
        refused_.count(proposed->SerializeAsString()) > 0) {
      Advance(false);
      continue;
    }
    candidate_ = *proposed;
    return proposed;
  }
}

void Reducer::Report(bool still_fails) {
  if (still_fails) {
    best_ = candidate_;
  } else {
    refused_.insert(candidate_.SerializeAsString());
  }
  Advance(still_fails);
}

}  // namespace ktstr::client
