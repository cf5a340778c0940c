// SPDX-License-Identifier: Apache-2.0
#include "client/search/repeat_check.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/utf8.h"
#include "scenario/finding_kinds.h"
#include "scenario/reproduce.h"

namespace ktstr::client {
namespace {

constexpr size_t kShownBytes = 160;

// Without the times of the host, and without the digest, whose difference is known.
v1::Observation OfTheGuest(const v1::Observation& observation) {
  v1::Observation out = observation;
  if (!out.has_vm_end()) return out;
  v1::VmEnd* end = out.mutable_vm_end();
  end->clear_guest_digest();
  end->clear_host_boot_ns();
  end->clear_host_attach_ns();
  end->clear_host_scenario_ns();
  end->clear_host_teardown_ns();
  return out;
}

std::string Text(const v1::Observation& observation) {
  v1::Observation fact = observation;
  fact.clear_guest_time_ns();
  return absl::StrFormat("%s at %.6f ms", base::OneLine(fact.ShortDebugString(), kShownBytes),
                         static_cast<double>(observation.guest_time_ns()) / 1e6);
}

std::string KeyOfGroup(const v1::RunRecord& record) {
  return absl::StrCat(record.scenario_digest(), " ", record.scenario(), " ",
                      record.variant().kernel(), " ", record.variant().topology(), " ",
                      record.variant().seed(), " ", record.scheduler().digest(), " ",
                      record.timings().start());
}

}  // namespace

RepeatCheck CheckRepeats(const std::vector<v1::RunRecord>& records) {
  RepeatCheck check;
  std::map<std::string, size_t> places;
  for (const v1::RunRecord& record : records) {
    const bool ended = record.verdict() == v1::PASS || record.verdict() == v1::FAIL;
    if (record.variant().engine() != "tcg" || !ended) continue;
    if (record.channel().full_waits() > 0) {
      check.left_out.push_back(absl::StrCat(
          record.run_id(), " is not comparable: its machine stopped ",
          record.channel().full_waits(),
          " times for the host to empty the channel, so its result depends on the host's speed"));
      continue;
    }
    if (record.guest_digest().empty()) {
      check.left_out.push_back(
          absl::StrCat(record.run_id(), " is not comparable: it has no digest of guest memory"));
      continue;
    }
    const auto [place, fresh] = places.emplace(KeyOfGroup(record), check.groups.size());
    if (fresh) {
      check.groups.emplace_back();
      check.groups.back().first = record;
    }
    RepeatGroup& group = check.groups[place->second];
    ++group.compared;
    if (!group.differs() && group.first.guest_digest() != record.guest_digest())
      group.differing = record;
  }
  return check;
}

std::string FirstDifference(const v1::RunObservations& here, const v1::RunObservations& there) {
  const int both = std::min(here.observations_size(), there.observations_size());
  for (int i = 0; i < both; ++i) {
    const v1::Observation a = OfTheGuest(here.observations(i));
    const v1::Observation b = OfTheGuest(there.observations(i));
    if (a.SerializeAsString() != b.SerializeAsString())
      return absl::StrCat("event ", i, ": ", Text(a), ", against ", Text(b));
  }
  if (here.observations_size() == there.observations_size()) return "";
  const bool longer = here.observations_size() > both;
  return absl::StrCat("event ", both, ": only ", longer ? "the first" : "the second", " has ",
                      Text((longer ? here : there).observations(both)));
}

v1::RunRecord NondeterminismRecord(const RepeatGroup& group, const std::string& difference) {
  v1::RunRecord record;
  record.set_schema_version(group.first.schema_version());
  record.set_scenario(group.first.scenario());
  *record.mutable_variant() = group.first.variant();
  *record.mutable_scheduler() = group.first.scheduler();
  record.set_scenario_digest(group.first.scenario_digest());
  *record.mutable_reproduction() = group.first.reproduction();
  record.mutable_reproduction()->set_repeat(2);
  record.set_reproduce(scenario::ReproduceCommand(record.reproduction()));
  record.set_verdict(scenario::InfoOf(scenario::FindingKind::kNondeterminism).verdict);
  v1::Finding* finding = record.add_findings();
  scenario::SetKind(scenario::FindingKind::kNondeterminism, finding);
  finding->set_where("guest");
  finding->set_message(
      absl::StrCat(group.first.run_id(), " and ", group.differing.run_id(), " of seed ",
                   group.first.variant().seed(), " left different guest memory (",
                   group.first.guest_digest().substr(0, 12), ", ",
                   group.differing.guest_digest().substr(0, 12), "); ",
                   difference.empty() ? "their observations are the same"
                                      : absl::StrCat("first difference: ", difference)));
  return record;
}

}  // namespace ktstr::client
