// SPDX-License-Identifier: Apache-2.0
#include "scenario/confirm.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scenario/checks.h"
#include "scenario/evaluate.h"
#include "scenario/finding_kinds.h"
#include "scenario/plan.h"
#include "scenario/topology.h"

namespace ktstr::scenario {
namespace {

// Counts, and rests on a threshold.
bool Crosses(const v1::Finding& finding) {
  const FindingKindInfo* info = InfoOf(finding);
  return !finding.consequence() && info != nullptr && info->threshold;
}

// Decides the verdict.
bool Decides(const v1::Finding& finding) {
  const FindingKindInfo* info = InfoOf(finding);
  return !finding.consequence() && (info == nullptr || info->verdict != v1::INCONCLUSIVE);
}

bool Shows(const v1::Confirmation& confirmation, const v1::Finding& finding) {
  return std::any_of(confirmation.findings().begin(), confirmation.findings().end(),
                     [&](const v1::Finding& other) {
                       return other.kind() == finding.kind() && !other.consequence();
                     });
}

void SetCheck(const Check& check, uint32_t value, v1::Checks* checks) {
  const auto* field = v1::Checks::GetDescriptor()->FindFieldByNumber(check.number);
  if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_UINT32) {
    v1::Checks::GetReflection()->SetUInt32(checks, field, value);
  } else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE) {
    v1::Checks::GetReflection()->SetDouble(checks, field, value);
  }
}

// The finding of the same kind, of the same place if there is one; null: none.
const v1::Finding* Like(const v1::Finding& finding, const v1::Judgement& judgement) {
  const v1::Finding* found = nullptr;
  for (const v1::Finding& other : judgement.findings()) {
    if (other.kind() != finding.kind()) continue;
    if (other.where() == finding.where()) return &other;
    if (found == nullptr) found = &other;
  }
  return found;
}

// A run that does not cross the threshold shows its figure when it is judged by a smaller one, as
// far as the run is long enough for that: "3%", "at most 8%". Empty: there is no figure.
std::string Measured(const v1::Finding& finding, v1::Scenario scenario,
                     const std::vector<v1::Observation>& observations) {
  for (const Check& check : CheckTable()) {
    if (check.is_switch || !IsKind(finding, check.kind)) continue;
    std::string at_most;
    const double limit = ValueOf(scenario.checks(), check.number).value_or(0);
    for (auto value = static_cast<uint32_t>(limit); value >= check.low && value > 0; value /= 2) {
      SetCheck(check, value, scenario.mutable_checks());
      const v1::Judgement strict = Evaluate(scenario, observations);
      if (const v1::Finding* like = Like(finding, strict); like != nullptr) return like->observed();
      const bool too_short =
          std::any_of(strict.findings().begin(), strict.findings().end(),
                      [](const auto& other) { return IsKind(other, FindingKind::kTooShort); });
      if (too_short) break;
      at_most = absl::StrCat("at most ", value, std::string(check.unit));
    }
    if (!at_most.empty()) return at_most;
  }
  return "";
}

// "41% with seed 1, 3% with seed 2", "nothing with seed 1".
std::string Figures(absl::Span<const v1::Confirmation> confirmations, int index) {
  return absl::StrJoin(
      confirmations, ", ", [index](std::string* out, const v1::Confirmation& confirmation) {
        const bool judged =
            confirmation.verdict() != v1::ERROR && index < confirmation.measured_size();
        if (!judged) {
          absl::StrAppend(out, "no result",
                          confirmation.findings().empty()
                              ? ""
                              : absl::StrCat(" (", confirmation.findings(0).kind(), ")"));
        } else {
          absl::StrAppend(
              out, confirmation.measured(index).empty() ? "nothing" : confirmation.measured(index));
        }
        absl::StrAppend(out, " with seed ", confirmation.seed());
      });
}

}  // namespace

bool NeedsConfirmation(const v1::Judgement& judgement) {
  return judgement.verdict() == v1::FAIL &&
         std::all_of(
             judgement.findings().begin(), judgement.findings().end(),
             [](const v1::Finding& finding) { return Crosses(finding) || !Decides(finding); });
}

std::optional<uint32_t> ConfirmingSpeed(const v1::Scenario& scenario, uint32_t ran_at) {
  const auto topology = Topology::FromProto(scenario.topology());
  if (!topology.ok() || ran_at == 0) return std::nullopt;
  if (ran_at >= 1000U / static_cast<uint32_t>(topology->num_cpus())) return std::nullopt;
  return std::min(kConfirmFactor * ran_at, 1000U);
}

std::vector<v1::Scenario> ConfirmingScenarios(const v1::Scenario& scenario, uint32_t ran_at) {
  if (!Topology::FromProto(scenario.topology()).ok() || ran_at == 0) return {};
  const bool faster = ConfirmingSpeed(scenario, ran_at).has_value();
  const uint64_t seed = SeedOf(scenario);
  std::vector<v1::Scenario> out;
  for (uint64_t other = faster ? 0 : 1; other <= kConfirmOtherSeeds; ++other) {
    out.push_back(scenario);
    // Seed 0 means the default one.
    const uint64_t room = std::numeric_limits<uint64_t>::max() - seed;
    out.back().set_seed(other <= room ? seed + other : other - room);
    out.back().set_vcpu_mips(std::min(kConfirmFactor * ran_at, 1000U));
  }
  return out;
}

v1::Confirmation MakeConfirmation(const v1::Judgement& judgement, const v1::Scenario& scenario,
                                  const std::vector<v1::Observation>& observations) {
  const v1::Judgement now = Evaluate(scenario, observations);
  v1::Confirmation confirmation;
  confirmation.set_seed(SeedOf(scenario));
  for (const v1::Observation& observation : observations) {
    if (observation.has_vm_end()) confirmation.set_vcpu_mips(observation.vm_end().vcpu_mips());
  }
  confirmation.set_verdict(now.verdict());
  *confirmation.mutable_findings() = now.findings();
  for (const v1::Finding& finding : judgement.findings()) {
    confirmation.add_measured(Measured(finding, scenario, observations));
  }
  return confirmation;
}

bool ShowsAll(const v1::Judgement& judgement, const v1::Confirmation& confirmation) {
  return std::all_of(judgement.findings().begin(), judgement.findings().end(),
                     [&](const v1::Finding& finding) {
                       return !Crosses(finding) || Shows(confirmation, finding);
                     });
}

v1::Judgement Confirmed(const v1::Judgement& judgement, uint32_t ran_at,
                        absl::Span<const v1::Confirmation> confirmations) {
  if (confirmations.empty()) return judgement;
  v1::Judgement out = judgement;
  out.set_verdict(v1::INCONCLUSIVE);
  uint32_t speed = 0;
  for (const v1::Confirmation& confirmation : confirmations) {
    speed = std::max(speed, confirmation.vcpu_mips());
  }
  for (int i = 0; i < out.findings_size(); ++i) {
    v1::Finding* finding = out.mutable_findings(i);
    if (!Crosses(*finding)) continue;
    const bool holds =
        std::any_of(confirmations.begin(), confirmations.end(),
                    [&](const v1::Confirmation& other) { return Shows(other, *finding); });
    const std::string figures = absl::StrCat("at ", speed, ": ", Figures(confirmations, i));
    if (holds) {
      out.set_verdict(v1::FAIL);
      finding->set_speeds(absl::StrCat("at ", ran_at, " MIPS a CPU; ", figures));
      continue;
    }
    finding->set_message(absl::StrCat(finding->kind(), " at ", ran_at, " MIPS a CPU, and not ",
                                      figures, ": ", finding->message()));
    SetKind(FindingKind::kUnconfirmed, finding);
  }
  return out;
}

}  // namespace ktstr::scenario
