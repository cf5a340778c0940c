// SPDX-License-Identifier: Apache-2.0
#include "client/search/tally.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "client/render.h"
#include "client/search/drive.h"
#include "client/search/wilson.h"
#include "google/protobuf/struct.pb.h"
#include "scenario/confirm.h"
#include "scenario/json.h"

namespace ktstr::client {
namespace {

// Seeds listed after a command; more are counted only.
constexpr size_t kSeedsShown = 20;

using google::protobuf::ListValue;
using google::protobuf::Struct;

void Put(Struct* object, const char* key, const std::string& value) {
  (*object->mutable_fields())[key].set_string_value(value);
}
void PutNumber(Struct* object, const char* key, double value) {
  (*object->mutable_fields())[key].set_number_value(value);
}
Struct* PutObject(Struct* object, const char* key) {
  return (*object->mutable_fields())[key].mutable_struct_value();
}
ListValue* PutList(Struct* object, const char* key) {
  return (*object->mutable_fields())[key].mutable_list_value();
}

// Sanitizes where and message: they may hold text of the guest.
void PutKey(Struct* object, const FindingKey& key) {
  Put(object, "kind", key.kind);
  Put(object, "where", base::SanitizeUtf8(key.where));
  Put(object, "message", base::SanitizeUtf8(key.message));
}

absl::StatusOr<std::string> Line(const Struct& object) {
  KTSTR_ASSIGN_OR_RETURN(std::string json, scenario::ToJson(object, /*pretty=*/false));
  return absl::StrCat(json, "\n");
}

// Of `count` in `elapsed`, those in each `period`.
double Rate(double count, absl::Duration elapsed, absl::Duration period) {
  return elapsed > absl::ZeroDuration() ? count * absl::FDivDuration(period, elapsed) : 0;
}

std::string Plural(uint64_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

// A line of a report; empty: no run was made.
std::string CheckText(const SpeedCheck& check) {
  if (check.runs == 0) return "";
  const std::string at = absl::StrCat("at ", check.vcpu_mips, " MIPS a CPU: ");
  if (check.shown > 0) {
    return absl::StrCat("    ", at, "shown with seed ", check.seed, " (", check.run_id, "), in ",
                        Plural(check.runs, "run"), "\n");
  }
  const std::string rate = RateText(0, check.runs);
  if (check.Refutes()) {
    return absl::StrCat("    UNCONFIRMED ", at, rate,
                        "; the speed of the virtual CPUs alone may cross the threshold\n");
  }
  return absl::StrCat("    ", at, rate, ", which at the rate above proves nothing\n");
}

}  // namespace

void Tally::Add(size_t strategy, const v1::RunRecord& record) {
  if (WasCancelled(record)) return;
  counts_[strategy].Add(record);
  seeds_.insert(record.variant().seed());
  if (!record.known_from().empty()) ++known_;
  const FindingKey key = KeyOf(record);
  if (record.verdict() == v1::FAIL) {
    Found& found = found_[key];
    found.failures.resize(strategies_.size());
    found.checks.resize(strategies_.size());
    const uint64_t seed = record.variant().seed();
    found.failures[strategy][seed] = {seed, record.run_id(), record.reproduce()};
    ++found.total;
    v1::Judgement judgement;
    judgement.set_verdict(record.verdict());
    *judgement.mutable_findings() = record.findings();
    found.by_thresholds = found.by_thresholds && scenario::NeedsConfirmation(judgement);
    found.vcpu_mips = record.vcpu_mips();
  } else if (record.verdict() != v1::PASS && record.verdict() != v1::SKIP &&
             record.verdict() != v1::INCONCLUSIVE && first_error_.empty()) {
    const std::string message =
        record.findings().empty() ? "no reason given" : record.findings(0).message();
    first_error_ = base::OneLine(
        absl::StrCat(key.kind, ": ", message, " (ktstrctl results show ", record.run_id(), ")"));
  }
}

std::vector<Suspect> Tally::Suspects() const {
  std::vector<Suspect> suspects;
  for (const auto* entry : Sorted()) {
    const Found& found = entry->second;
    for (size_t i = 0; i < strategies_.size() && found.by_thresholds; ++i) {
      if (found.failures[i].empty()) continue;
      Suspect& suspect = suspects.emplace_back();
      suspect.key = entry->first;
      suspect.strategy = i;
      suspect.vcpu_mips = found.vcpu_mips;
      for (const auto& [seed, failure] : found.failures[i]) suspect.seeds.push_back(seed);
      suspect.runs = Judged(i);
    }
  }
  return suspects;
}

void Tally::SetSpeedCheck(const Suspect& suspect, const SpeedCheck& check) {
  if (const auto found = found_.find(suspect.key); found != found_.end())
    found->second.checks[suspect.strategy] = check;
}

VerdictCounts Tally::All() const {
  VerdictCounts all;
  for (const VerdictCounts& counts : counts_) all.Add(counts);
  for (const auto& [key, found] : found_) {
    for (size_t i = 0; i < strategies_.size(); ++i) {
      if (!found.checks[i].Refutes()) continue;
      all.failed -= static_cast<int>(found.failures[i].size());
      all.inconclusive += static_cast<int>(found.failures[i].size());
    }
  }
  return all;
}

uint64_t Tally::done() const {
  uint64_t done = 0;
  for (const VerdictCounts& counts : counts_) done += counts.total();
  return done;
}

uint64_t Tally::failures() const {
  uint64_t failures = 0;
  for (const VerdictCounts& counts : counts_) failures += counts.failed;
  return failures;
}

uint64_t Tally::errors() const {
  uint64_t errors = 0;
  for (const VerdictCounts& counts : counts_) errors += counts.errors;
  return errors;
}

uint64_t Tally::Judged(size_t strategy) const {
  return counts_[strategy].passed + counts_[strategy].failed;
}

std::vector<const std::pair<const FindingKey, Tally::Found>*> Tally::Sorted() const {
  std::vector<const std::pair<const FindingKey, Found>*> sorted;
  for (const auto& entry : found_) sorted.push_back(&entry);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto* a, const auto* b) { return a->second.total > b->second.total; });
  return sorted;
}

std::string Tally::Tried(uint64_t runs) const {
  return Plural(runs, strategies_.size() > 1 ? "run" : "seed");
}

std::string Tally::Progress(absl::Duration elapsed) const {
  std::string out = absl::StrCat(done(), " of ", Tried(planned_));
  if (known_ > 0) absl::StrAppend(&out, ", ", known_, " known");
  absl::StrAppendFormat(&out, ", %.1f a second",
                        Rate(static_cast<double>(done() - known_), elapsed, absl::Seconds(1)));
  if (errors() > 0) absl::StrAppend(&out, ", ", Plural(errors(), "error"));
  absl::StrAppend(&out, ", ", Plural(failures(), "failure"));
  std::vector<std::string> parts;
  for (const auto* entry : Sorted())
    parts.push_back(absl::StrCat(entry->first.PlaceText(), " ", entry->second.total));
  if (!parts.empty()) {
    absl::StrAppend(&out, ", ", Plural(found_.size(), "distinct finding"), ": ",
                    base::OneLine(absl::StrJoin(parts, ", ")));
  }
  return out;
}

std::string Tally::FoundText(const FindingKey& key, const Found& found) const {
  std::string out = absl::StrCat(base::OneLine(key.Text()), "\n");
  for (size_t i = 0; i < strategies_.size(); ++i) {
    const auto& failures = found.failures[i];
    absl::StrAppend(&out, "  ", strategies_[i], ": ", RateText(failures.size(), Judged(i)), "\n");
    if (failures.empty()) continue;
    const Failure& first = failures.begin()->second;
    absl::StrAppend(&out, "    ", base::OneLine(first.reproduce), "\n");
    std::vector<uint64_t> others;
    for (const auto& [seed, failure] : failures) {
      if (seed != first.seed && others.size() < kSeedsShown) others.push_back(seed);
    }
    if (!others.empty()) {
      const size_t hidden = failures.size() - 1 - others.size();
      absl::StrAppend(&out, "    the same with --seed ", absl::StrJoin(others, ", "),
                      hidden > 0 ? absl::StrCat(", and ", hidden, " more") : "", "\n");
    }
    absl::StrAppend(&out, CheckText(found.checks[i]));
  }
  return out;
}

std::string Tally::Report(absl::Duration elapsed) const {
  std::string out;
  for (const auto* entry : Sorted()) out += FoundText(entry->first, entry->second);
  const VerdictCounts all = All();
  if (found_.empty()) {
    for (size_t i = 0; i < strategies_.size(); ++i)
      absl::StrAppend(&out, strategies_[i], ": no failure, ", RateText(0, Judged(i)), "\n");
  }
  if (all.errors > 0) {
    absl::StrAppend(&out, Plural(all.errors, "run"), " ended as ERROR, the first with ",
                    first_error_, "\n");
  }
  if (not_tried() > 0) {
    absl::StrAppend(&out, Plural(not_tried(), "run"), " of ", planned_,
                    " not made: ", not_tried() == 1 ? "its seed was" : "their seeds were",
                    " not tried\n");
  }
  absl::StrAppend(&out, Tried(done()));
  if (known_ > 0) absl::StrAppend(&out, ", ", known_, " known");
  if (done() > known_) {
    absl::StrAppendFormat(&out, ", %.1f a minute",
                          Rate(static_cast<double>(done() - known_), elapsed, absl::Minutes(1)));
  }
  absl::StrAppend(&out, "; ", Plural(found_.size(), "distinct finding"), "; ",
                  SummaryLine(all, elapsed));
  return out;
}

absl::StatusOr<std::string> Tally::RunJson(size_t strategy, const v1::RunRecord& record) const {
  Struct object;
  Put(&object, "seed", absl::StrCat(record.variant().seed()));
  Put(&object, "strategy", strategies_[strategy]);
  Put(&object, "runId", record.run_id());
  Put(&object, "verdict", VerdictName(record.verdict()));
  if (!record.findings().empty()) {
    Struct* finding = PutObject(&object, "finding");
    PutKey(finding, KeyOf(record));
    Put(finding, "text", base::SanitizeUtf8(record.findings(0).message()));
  }
  Put(&object, "knownFrom", record.known_from());
  Put(&object, "guestDigest", record.guest_digest());
  Put(&object, "reproduce", record.reproduce());
  return Line(object);
}

absl::StatusOr<std::string> Tally::SummaryJson(absl::Duration elapsed,
                                               const std::string& stopped_by) const {
  Struct line;
  Struct* summary = PutObject(&line, "summary");
  PutNumber(summary, "planned", static_cast<double>(planned_));
  PutNumber(summary, "done", static_cast<double>(done()));
  PutNumber(summary, "known", static_cast<double>(known_));
  PutNumber(summary, "notTried", static_cast<double>(not_tried()));
  const VerdictCounts all = All();
  PutNumber(summary, "failures", all.failed);
  PutNumber(summary, "inconclusive", all.inconclusive);
  PutNumber(summary, "errors", static_cast<double>(errors()));
  PutNumber(summary, "distinctFindings", static_cast<double>(found_.size()));
  PutNumber(summary, "seconds", absl::ToDoubleSeconds(elapsed));
  PutNumber(summary, "seedsTried", static_cast<double>(seeds_.size()));
  // Of those whose runs were made: what the next ones cost.
  const double made = static_cast<double>(done() - known_);
  PutNumber(summary, "seedsPerMinute",
            Rate(made / static_cast<double>(strategies_.size()), elapsed, absl::Minutes(1)));
  Put(summary, "stoppedBy", stopped_by);
  ListValue* findings = PutList(summary, "findings");
  for (const auto* entry : Sorted()) {
    Struct* finding = findings->add_values()->mutable_struct_value();
    PutKey(finding, entry->first);
    ListValue* by_strategy = PutList(finding, "strategies");
    for (size_t i = 0; i < strategies_.size(); ++i) {
      const auto& failures = entry->second.failures[i];
      const Interval interval = WilsonInterval(failures.size(), Judged(i));
      Struct* one = by_strategy->add_values()->mutable_struct_value();
      Put(one, "strategy", strategies_[i]);
      PutNumber(one, "failures", static_cast<double>(failures.size()));
      PutNumber(one, "runs", static_cast<double>(Judged(i)));
      PutNumber(one, "rateLow", interval.low);
      PutNumber(one, "rateHigh", interval.high);
      if (const SpeedCheck& check = entry->second.checks[i]; check.runs > 0) {
        Struct* speed = PutObject(one, "speedCheck");
        PutNumber(speed, "vcpuMips", check.vcpu_mips);
        PutNumber(speed, "runs", static_cast<double>(check.runs));
        PutNumber(speed, "shown", static_cast<double>(check.shown));
        Put(speed, "runId", check.run_id);
        (*speed->mutable_fields())["unconfirmed"].set_bool_value(check.Refutes());
      }
      ListValue* commands = PutList(one, "reproduce");
      for (const auto& [seed, failure] : failures)
        commands->add_values()->set_string_value(failure.reproduce);
    }
  }
  return Line(line);
}

ExitCode Tally::Code() const {
  const VerdictCounts all = All();
  if (all.failed == 0 && all.errors == 0 && done() == 0) return kInconclusive;
  return ExitCodeOf(all, FailurePolicy());
}

}  // namespace ktstr::client
