// SPDX-License-Identifier: Apache-2.0
#include "client/run_plan.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/status_macros.h"
#include "client/project.h"
#include "client/scenario_source.h"
#include "scenario/perturb.h"
#include "scenario/plan.h"
#include "scenario/reproduce.h"
#include "scenario/validate.h"

namespace ktstr::client {
namespace {

using google::protobuf::util::MessageDifferencer;

std::string WorkingDirectory() {
  std::error_code error;
  return std::filesystem::current_path(error);
}

absl::Status AboutOption(const absl::Status& status, absl::string_view option) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", status.message()));
}

// Refuses what is no id of the cache: a path, or a source to fetch from.
absl::Status CheckKernelId(const std::string& id) {
  if (absl::StrContains(id, '/')) {
    return absl::InvalidArgumentError(
        absl::StrCat("kernel ", id,
                     ": a path. Put it into the cache first with `ktstrctl kernel "
                     "import ",
                     scenario::ShellWord(id), "`, then name its key or version"));
  }
  if (absl::StartsWith(id, "deb:")) {
    return absl::InvalidArgumentError(
        absl::StrCat("kernel ", id, ": a package. Fetch it first with `ktstrctl kernel fetch ",
                     scenario::ShellWord(id), "`, then name its key or version"));
  }
  return absl::OkStatus();
}

// Finds and reads scheduler programs, each once.
class SchedulerFiles {
 public:
  explicit SchedulerFiles(const PlanPlaces& places) : places_(places) {}

  // Adds the scheduler's files to `spec`.
  absl::Status Add(const std::string& scenario_directory, bool from_flag, v1::RunSpec* spec) {
    if (!spec->scenario().has_scheduler()) return absl::OkStatus();
    DiscoveryPlaces discovery = places_.discovery;
    discovery.scenario_directory = from_flag ? "" : scenario_directory;
    if (from_flag) discovery.variable.clear();
    KTSTR_ASSIGN_OR_RETURN(const std::string path,
                           FindScheduler(spec->scenario().scheduler().name(), discovery));
    KTSTR_ASSIGN_OR_RETURN(const std::vector<BundleFile>* files, Closure(path));
    for (const BundleFile& file : *files) *spec->add_files() = file.ref;
    spec->set_scheduler_path(files->front().ref.guest_path());
    spec->mutable_reproduction()->set_scheduler_program(path);
    // The guest shows the program's own name, without its path.
    spec->mutable_scenario()->mutable_scheduler()->set_name(std::string(base::Basename(path)));
    return scenario::HasDelayProbe(spec->scenario()) ? AddDelay(spec) : absl::OkStatus();
  }

  std::vector<BundleFile> All() const {
    std::vector<BundleFile> all;
    for (const auto& [path, files] : closures_) all.insert(all.end(), files.begin(), files.end());
    return all;
  }

 private:
  absl::StatusOr<const std::vector<BundleFile>*> Closure(const std::string& path) {
    auto found = closures_.find(path);
    if (found == closures_.end()) {
      KTSTR_ASSIGN_OR_RETURN(std::vector<BundleFile> files,
                             ProgramClosure(path, places_.libraries));
      found = closures_.emplace(path, std::move(files)).first;
    }
    return &found->second;
  }

  // Adds ktstr's own program for `perturb.delay_point`: the scenario's directory does not count.
  absl::Status AddDelay(v1::RunSpec* spec) {
    DiscoveryPlaces discovery;
    discovery.program_directory = places_.discovery.program_directory;
    discovery.path = places_.discovery.path;
    const absl::StatusOr<std::string> path = FindScheduler(scenario::kDelayProgram, discovery);
    if (!path.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("perturb.delay_point needs the program ", scenario::kDelayProgram,
                       ", which is built with the sample schedulers: ", path.status().message()));
    }
    KTSTR_ASSIGN_OR_RETURN(const std::vector<BundleFile>* files, Closure(*path));
    for (const BundleFile& file : *files) {
      // Adds a library that the scheduler needs too only once.
      const auto same = [&file](const v1::FileRef& other) {
        return other.guest_path() == file.ref.guest_path();
      };
      if (std::none_of(spec->files().begin(), spec->files().end(), same))
        *spec->add_files() = file.ref;
    }
    return absl::OkStatus();
  }

  const PlanPlaces& places_;
  std::map<std::string, std::vector<BundleFile>> closures_;
};

// The scenario as the command line changes it; adds problems to `problems`. The parser has
// judged the file's own content.
v1::Scenario Changed(const SourcedScenario& source, const Overrides& overrides,
                     std::vector<std::string>* problems) {
  v1::Scenario scenario = source.scenario;
  if (absl::Status status = Apply(overrides, &scenario); !status.ok()) {
    problems->push_back(std::string(status.message()));
    return scenario;
  }
  if (MessageDifferencer::Equals(scenario, source.scenario)) return scenario;
  for (const scenario::Problem& problem : scenario::Validate(scenario)) {
    problems->push_back(
        absl::StrCat(source.argument, ", as the command line changes it: ", problem.ToString()));
  }
  return scenario;
}

// With several runs, all but the first are spared the attach.
v1::WarmStart WarmOf(const RunOptions& options) {
  if (options.warm == "off") return v1::WARM_OFF;
  if (options.warm == "attached") return v1::WARM_ATTACHED;
  return options.warm.empty() && options.repeat > 1 ? v1::WARM_ATTACHED : v1::WARM_BOOT;
}

}  // namespace

absl::StatusOr<RunChoices> ParseChoices(const RunOptions& options) {
  RunChoices choices;
  Overrides& overrides = choices.overrides;
  if (!options.topology.empty()) {
    absl::StatusOr<v1::Topology> topology = ParseTopology(options.topology);
    if (!topology.ok()) return AboutOption(topology.status(), "--topology");
    overrides.topology = *topology;
  }
  if (!options.duration.empty()) {
    absl::StatusOr<uint32_t> duration = ParseDurationMs(options.duration);
    if (!duration.ok()) return AboutOption(duration.status(), "--duration");
    if (*duration < 100 || *duration > scenario::kMaxDurationMs) {
      return absl::InvalidArgumentError(
          absl::StrCat("--duration: ", options.duration, " is outside 100ms to 1h"));
    }
    overrides.duration_ms = *duration;
  }
  if (!options.timeout.empty()) {
    absl::StatusOr<uint32_t> timeout = ParseDurationMs(options.timeout);
    if (!timeout.ok()) return AboutOption(timeout.status(), "--timeout");
    choices.timeout_ms = *timeout;
  }
  if (!options.seed.empty()) {
    absl::StatusOr<uint64_t> seed = ParseSeed(options.seed);
    if (!seed.ok()) return AboutOption(seed.status(), "--seed");
    overrides.seed = *seed;
    choices.seed_drawn = options.seed == "random";
  }
  absl::StatusOr<v1::Engine> engine = ParseEngine(options.engine);
  if (!engine.ok()) return AboutOption(engine.status(), "--engine");
  choices.engine = *engine;
  if (options.deterministic) {
    if (choices.engine == v1::KVM) {
      return absl::InvalidArgumentError(
          "--deterministic with --engine kvm: under kvm, time is the host's and a run does not "
          "repeat. Use --engine tcg");
    }
    choices.engine = v1::TCG;
  }
  for (const std::string& text : options.sets) {
    absl::StatusOr<Setting> setting = Setting::Parse(text);
    if (!setting.ok()) return AboutOption(setting.status(), "--set");
    overrides.sets.push_back(*std::move(setting));
  }
  for (const std::string& text : options.seed_forks) {
    absl::StatusOr<v1::SeedFork> fork = ParseSeedFork(text);
    if (!fork.ok()) return AboutOption(fork.status(), "--seed-fork");
    overrides.seed_forks.push_back(*fork);
  }
  if (options.memory_mb != 0) overrides.memory_mb = options.memory_mb;
  overrides.vcpu_mips = options.vcpu_mips;
  if (options.workers != 0) overrides.workers = options.workers;
  if (!options.scheduler.empty()) overrides.scheduler = options.scheduler;
  overrides.scheduler_args = options.scheduler_args;
  overrides.strict = options.strict;
  return choices;
}

PlanPlaces PlanPlacesOfProcess() {
  PlanPlaces places;
  places.discovery.variable = base::Env("KTSTR_SCHEDULER");
  places.discovery.working_directory = WorkingDirectory();
  places.discovery.program_directory = base::ProgramDirectory();
  places.discovery.path = base::Env("PATH");
  places.libraries = HostLibraryPlaces();
  places.kernel = base::Env("KTSTR_KERNEL");
  places.ci = getenv("KTSTR_CI") != nullptr;
  places.project_commit = ProjectCommit(places.discovery.working_directory);
  return places;
}

absl::StatusOr<RunPlan> MakeRunPlan(const RunOptions& options, const RunChoices& choices,
                                    const PlanPlaces& places) {
  SourcedScenarios sources = LoadScenarios(options.scenarios);
  std::vector<std::string> problems = std::move(sources.problems);
  std::vector<std::string> kernels = options.kernels;
  if (kernels.empty()) kernels.push_back(places.kernel);
  for (const std::string& kernel : kernels) {
    if (absl::Status status = CheckKernelId(kernel); !status.ok())
      problems.push_back(std::string(status.message()));
  }
  RunPlan plan;
  if (places.project_commit == "unknown") {
    plan.warnings.push_back(
        "the working directory is not in a git repository: records have project commit "
        "\"unknown\"");
  }
  SchedulerFiles files(places);
  for (const SourcedScenario& source : sources.scenarios) {
    v1::RunSpec spec;
    *spec.mutable_scenario() = Changed(source, choices.overrides, &problems);
    spec.set_engine(choices.engine);
    spec.set_timeout_ms(choices.timeout_ms);
    spec.set_project_commit(places.project_commit);
    spec.set_run_source(places.ci ? "ci" : "local");
    spec.set_cancel_when_unwatched(!options.detach);
    spec.set_warm(WarmOf(options));
    spec.set_dmesg(options.dmesg);
    if (options.vcpu_turn_us) spec.set_vcpu_turn_us(*options.vcpu_turn_us);
    spec.set_confirm(options.confirm == "auto");
    *spec.mutable_reproduction() = ReproductionOf(options, source.argument);
    spec.mutable_reproduction()->set_seed(scenario::SeedOf(spec.scenario()));
    if (absl::Status status = files.Add(source.directory, !options.scheduler.empty(), &spec);
        !status.ok()) {
      problems.push_back(std::string(status.message()));
    }
    for (const std::string& kernel : kernels) {
      spec.set_kernel(kernel);
      spec.mutable_reproduction()->set_kernel(kernel);
      plan.specs.insert(plan.specs.end(), options.repeat, spec);
    }
  }
  if (!problems.empty()) {
    // Several scenarios may have the same problem.
    std::vector<std::string> distinct;
    for (std::string& problem : problems) {
      if (std::find(distinct.begin(), distinct.end(), problem) == distinct.end())
        distinct.push_back(std::move(problem));
    }
    return absl::InvalidArgumentError(absl::StrJoin(distinct, "\n"));
  }
  plan.files = files.All();
  return plan;
}

v1::Reproduction ReproductionOf(const RunOptions& options, const std::string& argument) {
  v1::Reproduction run;
  run.set_scenario(argument);
  run.set_scheduler(options.scheduler);
  run.mutable_scheduler_args()->Assign(options.scheduler_args.begin(),
                                       options.scheduler_args.end());
  run.set_topology(options.topology);
  run.set_memory_mb(options.memory_mb);
  run.set_duration(options.duration);
  run.set_workers(options.workers);
  run.set_engine(options.engine == "auto" ? "" : options.engine);
  run.set_deterministic(options.deterministic);
  run.mutable_seed_forks()->Assign(options.seed_forks.begin(), options.seed_forks.end());
  run.mutable_sets()->Assign(options.sets.begin(), options.sets.end());
  run.set_strict(options.strict);
  run.set_warm(options.warm);
  run.set_dmesg(options.dmesg);
  run.set_timeout(options.timeout);
  if (options.vcpu_mips) run.set_vcpu_mips(*options.vcpu_mips);
  if (options.vcpu_turn_us) run.set_vcpu_turn_us(*options.vcpu_turn_us);
  if (options.confirm != "auto") run.set_confirm(options.confirm);
  return run;
}

v1::Reproduction ReproductionOfFile(const v1::Reproduction& run, const std::string& path) {
  v1::Reproduction out;
  out.set_scenario(path);
  out.set_kernel(run.kernel());
  out.set_deterministic(true);
  out.set_seed(run.seed());
  out.set_timeout(run.timeout());
  out.set_warm(run.warm());
  if (run.has_vcpu_turn_us()) out.set_vcpu_turn_us(run.vcpu_turn_us());
  out.set_confirm(run.confirm());
  return out;
}

RunOptions OptionsOfFile(const v1::Reproduction& run) {
  RunOptions options;
  options.scenarios = {run.scenario()};
  if (!run.kernel().empty()) options.kernels = {run.kernel()};
  options.deterministic = run.deterministic();
  if (run.seed() != 0) options.seed = absl::StrCat(run.seed());
  options.timeout = run.timeout();
  options.warm = run.warm();
  if (run.has_vcpu_turn_us()) options.vcpu_turn_us = run.vcpu_turn_us();
  if (!run.confirm().empty()) options.confirm = run.confirm();
  return options;
}

}  // namespace ktstr::client
