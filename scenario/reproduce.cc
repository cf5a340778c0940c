// SPDX-License-Identifier: Apache-2.0

#include "scenario/reproduce.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/string_view.h"

namespace ktstr::scenario {

std::string ShellWord(std::string_view text) {
  constexpr char kPlain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string_view::npos) {
    return std::string(text);
  }
  return absl::StrCat("'", absl::StrReplaceAll(base::ToAbsl(text), {{"'", "'\\''"}}), "'");
}

std::string ReproduceCommand(const v1::Reproduction& run) {
  if (run.scenario().empty()) return "";
  std::vector<std::string> words = {"ktstrctl", "run", ShellWord(run.scenario())};
  const auto add = [&words](const char* name, const std::string& value) {
    if (!value.empty()) words.push_back(absl::StrCat(name, " ", ShellWord(value)));
  };
  const auto add_number = [&](const char* name, uint64_t value) {
    if (value != 0) add(name, absl::StrCat(value));
  };
  const auto add_flag = [&words](const char* name, bool given) {
    if (given) words.push_back(name);
  };
  add("--kernel", run.kernel());
  add("--scheduler", run.scheduler());
  // Joined by "=": an argument may look like an option, and may be empty.
  for (const std::string& arg : run.scheduler_args()) {
    words.push_back(absl::StrCat("--sched-arg=", ShellWord(arg)));
  }
  add("--topology", run.topology());
  add_number("--memory-mb", run.memory_mb());
  if (run.has_vcpu_mips()) add("--vcpu-mips", absl::StrCat(run.vcpu_mips()));
  if (run.has_vcpu_turn_us()) add("--vcpu-turn-us", absl::StrCat(run.vcpu_turn_us()));
  add("--duration", run.duration());
  add_number("--workers", run.workers());
  add("--engine", run.engine());
  add_flag("--deterministic", run.deterministic());
  add_number("--seed", run.seed());
  for (const std::string& fork : run.seed_forks()) add("--seed-fork", fork);
  for (const std::string& set : run.sets()) add("--set", set);
  add_flag("--strict", run.strict());
  add("--warm", run.warm());
  add_flag("--dmesg", run.dmesg());
  add("--timeout", run.timeout());
  add("--confirm", run.confirm());
  if (run.repeat() > 1) add_number("--repeat", run.repeat());
  return absl::StrJoin(words, " ");
}

void SetReproduction(v1::Reproduction run, v1::RunRecord* record) {
  if (run.scenario().empty()) return;
  // Without a name, a repeated run may get a newer kernel.
  if (run.kernel().empty()) run.set_kernel(record->variant().kernel());
  record->set_reproduce(ReproduceCommand(run));
  *record->mutable_reproduction() = std::move(run);
}

}  // namespace ktstr::scenario
