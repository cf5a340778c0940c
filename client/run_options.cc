// SPDX-License-Identifier: Apache-2.0
#include "client/run_options.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/private_daemon.h"
#include "client/project.h"
#include "client/scenario_source.h"
#include "scenario/perturb.h"
#include "scenario/plan.h"
#include "scenario/validate.h"

namespace ktstr::client {
namespace {

std::string WorkingDirectory() {
  std::error_code error;
  return std::filesystem::current_path(error);
}

// For a shell, as short as it can be.
std::string Quoted(const std::string& text) {
  constexpr char kPlain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// Takes apart what Quoted() put together.
std::vector<std::string> SplitWords(const std::string& command) {
  std::vector<std::string> words;
  bool in_word = false, in_quotes = false;
  for (size_t i = 0; i < command.size(); ++i) {
    char c = command[i];
    if (!in_quotes && c == ' ') {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c == '\'') {
      in_quotes = !in_quotes;
      continue;
    }
    if (!in_quotes && c == '\\' && i + 1 < command.size()) c = command[++i];
    words.back() += c;
  }
  return words;
}

absl::Status AboutOption(const absl::Status& status, absl::string_view option) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", status.message()));
}

// A path, or a source that has to be fetched, is no id of the cache.
absl::Status CheckKernelId(const std::string& id) {
  if (absl::StrContains(id, '/')) {
    return absl::InvalidArgumentError(
        absl::StrCat("kernel ", id,
                     ": a path. Put it into the cache first with `ktstrctl kernel "
                     "import ",
                     Quoted(id), "`, then name its key or version"));
  }
  if (absl::StartsWith(id, "deb:")) {
    return absl::InvalidArgumentError(
        absl::StrCat("kernel ", id, ": a package. Fetch it first with `ktstrctl kernel fetch ",
                     Quoted(id), "`, then name its key or version"));
  }
  return absl::OkStatus();
}

// Scheduler programs found and read, each once.
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
    // The guest shows the program's own name, wherever it was found.
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

  // The program behind `perturb.delay_point`: ours, so it is looked for as our other programs are.
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
      // Libraries that the scheduler has too come once.
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

// The scenario as the command line changes it; problems are added to `problems`.
v1::Scenario Changed(const SourcedScenario& source, const Overrides& overrides,
                     std::vector<std::string>* problems) {
  v1::Scenario scenario = source.scenario;
  if (absl::Status status = Apply(overrides, &scenario); !status.ok()) {
    problems->push_back(std::string(status.message()));
    return scenario;
  }
  for (const scenario::Problem& problem : scenario::Validate(scenario)) {
    problems->push_back(
        absl::StrCat(source.argument, ", as the command line changes it: ", problem.ToString()));
  }
  return scenario;
}

}  // namespace

void AddVariantOptions(CLI::App* command, RunOptions* o) {
  command
      ->add_option("--kernel", o->kernels,
                   "Kernel of the cache by key, version or prefix (else KTSTR_KERNEL); repeatable")
      ->type_name("ID")
      ->allow_extra_args(false);
  command->add_option("--scheduler", o->scheduler, "Scheduler under test instead of the scenario's")
      ->type_name("NAME|PATH");
  command
      ->add_option("--sched-arg", o->scheduler_args,
                   "Argument added to the scheduler's; repeatable")
      ->type_name("ARG")
      ->allow_extra_args(false);
  command->add_option("--topology", o->topology, "Machine of the guest instead of the scenario's")
      ->type_name("N,L,C,T|PRESET");
  command->add_option("--memory-mb", o->memory_mb, "Guest memory")->check(CLI::Range(256, 16384));
  command->add_option("--duration", o->duration, "Length of the scenario, as 500ms or 5s")
      ->type_name("DURATION");
  command->add_option("--workers", o->workers, "Workers of every work group")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--set", o->sets,
                   "Change a check or the disturbances, as checks.max_gap_ms=500 or "
                   "perturb.intensity=2; repeatable")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  command->add_flag(
      "--strict", o->strict,
      "Strict thresholds where the scenario sets none: max_gap_ms 2000, max_spread_pct 15");
  command
      ->add_option("--timeout", o->timeout,
                   "Host time that a run may take from the start of its machine")
      ->type_name("DURATION");
}

void RefuseEmptyValues(CLI::App* command, const std::vector<std::string>& names) {
  // An empty value would read as an option that is not there.
  const CLI::Validator not_empty(
      [](const std::string& value) {
        return std::string(value.empty() ? "the value is empty" : "");
      },
      "");
  for (const std::string& name : names) command->get_option(name)->check(not_empty);
}

void AddRunOptions(CLI::App* app, std::function<void(const RunOptions&)> use) {
  const auto o = std::make_shared<RunOptions>();
  CLI::App* run =
      app->add_subcommand("run", "Run scenarios and say pass or fail, with the reasons");
  run->add_option("SCENARIO", o->scenarios,
                  "Scenario files, directories of them (*.ktstr.txtpb), or canned names")
      ->required();
  AddVariantOptions(run, o.get());
  run->add_option("--engine", o->engine, "What runs the virtual machine")
      ->type_name("auto|kvm|tcg");
  run->add_flag("--deterministic", o->deterministic,
                "Insist on virtual time: tcg, the same result every time");
  run->add_option("--seed", o->seed, "Seed of all randomness in the guest")->type_name("N|random");
  run->add_option("--seed-fork", o->seed_forks,
                  "Another seed from that guest time on, as 500ms:7; repeatable")
      ->type_name("AT:SEED")
      ->allow_extra_args(false);
  run->add_option("--repeat", o->repeat,
                  "Run each variant so often; under tcg, the guests' memory must be the same")
      ->check(CLI::Range(1, 10000));
  run->add_option("-j,--jobs", o->jobs, "Runs in flight at once")->check(CLI::Range(1, 256));
  run->add_option("--junit", o->junit, "Write a JUnit report")->type_name("FILE");
  run->add_flag("--ktap", o->ktap, "KTAP version 1 on stdout");
  run->add_option("-o,--output", o->output_directory,
                  "Write each record there (else KTSTR_SIDECAR_DIR)")
      ->type_name("DIR");
  run->add_flag(
      "--warm,!--no-warm", o->warm,
      "Start from a snapshot of the booted guest where there is one (the default), or boot");
  run->add_flag(
      "--dmesg", o->dmesg,
      "Show the guest's kernel log on stderr while it runs (with --no-warm: from its boot on)");
  run->add_flag("--detach", o->detach, "Submit, print the ids and leave");
  run->add_flag("--skip-is-failure", o->policy.skip_is_failure,
                "Exit with 1 when a run was skipped");
  run->add_flag("--inconclusive-is-failure", o->policy.inconclusive_is_failure,
                "Exit with 1 when a run was inconclusive");
  RefuseEmptyValues(run, {"--kernel", "--scheduler", "--topology", "--duration", "--engine",
                          "--seed", "--set", "--junit", "--output", "--timeout"});
  run->footer(
      "KTSTR_SCHEDULER names the program of schedulers that a scenario file names without a "
      "path.\n\n"
      "Example:\n  ktstrctl run steady --topology tiny-2llc --duration 1s");
  run->callback([o, use = std::move(use)] { use(*o); });
}

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
  v1::Scenario scratch;
  for (const std::string& set : options.sets) {
    if (absl::Status status = ParseSet(set, &scratch); !status.ok())
      return AboutOption(status, "--set");
  }
  overrides.sets = options.sets;
  for (const std::string& text : options.seed_forks) {
    absl::StatusOr<v1::SeedFork> fork = ParseSeedFork(text);
    if (!fork.ok()) return AboutOption(fork.status(), "--seed-fork");
    overrides.seed_forks.push_back(*fork);
  }
  if (options.memory_mb != 0) overrides.memory_mb = options.memory_mb;
  if (options.workers != 0) overrides.workers = options.workers;
  if (!options.scheduler.empty()) overrides.scheduler = options.scheduler;
  overrides.scheduler_args = options.scheduler_args;
  overrides.strict = options.strict;
  return choices;
}

PlanPlaces PlanPlacesOfProcess() {
  PlanPlaces places;
  places.discovery.variable = Env("KTSTR_SCHEDULER");
  places.discovery.working_directory = WorkingDirectory();
  places.discovery.program_directory = ProgramDirectory();
  places.discovery.path = Env("PATH");
  places.libraries = HostLibraryPlaces();
  places.kernel = Env("KTSTR_KERNEL");
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
        "the working directory is not in a git repository: records say project commit \"unknown\"");
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
    spec.set_no_warm(!options.warm);
    spec.set_dmesg(options.dmesg);
    const uint64_t seed = scenario::SeedOf(spec.scenario());
    if (absl::Status status = files.Add(source.directory, !options.scheduler.empty(), &spec);
        !status.ok()) {
      problems.push_back(std::string(status.message()));
    }
    for (const std::string& kernel : kernels) {
      spec.set_kernel(kernel);
      spec.set_reproduce(ReproduceCommand(options, source.argument, kernel, seed));
      plan.specs.insert(plan.specs.end(), options.repeat, spec);
    }
  }
  if (!problems.empty()) {
    // Several scenarios may meet the same obstacle.
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

std::string ReproduceCommand(const RunOptions& options, const std::string& argument,
                             const std::string& kernel, uint64_t seed) {
  std::vector<std::string> words = {"ktstrctl", "run", Quoted(argument)};
  const auto add = [&words](absl::string_view name, const std::string& value) {
    if (!value.empty()) words.push_back(absl::StrCat(name, " ", Quoted(value)));
  };
  add("--kernel", kernel);
  add("--scheduler", options.scheduler);
  for (const std::string& arg : options.scheduler_args)
    words.push_back(absl::StrCat("--sched-arg=", Quoted(arg)));
  add("--topology", options.topology);
  if (options.memory_mb != 0) add("--memory-mb", absl::StrCat(options.memory_mb));
  add("--duration", options.duration);
  if (options.workers != 0) add("--workers", absl::StrCat(options.workers));
  add("--engine", options.engine == "auto" ? "" : options.engine);
  if (options.deterministic) words.push_back("--deterministic");
  add("--seed", absl::StrCat(seed));
  for (const std::string& fork : options.seed_forks) add("--seed-fork", fork);
  for (const std::string& set : options.sets) add("--set", set);
  if (options.strict) words.push_back("--strict");
  if (!options.warm) words.push_back("--no-warm");
  if (options.dmesg) words.push_back("--dmesg");
  add("--timeout", options.timeout);
  return absl::StrJoin(words, " ");
}

absl::StatusOr<RunOptions> ParseReproduce(const std::string& command) {
  std::vector<std::string> words = SplitWords(command);
  CLI::App app;
  std::optional<RunOptions> parsed;
  AddRunOptions(&app, [&parsed](const RunOptions& options) { parsed = options; });
  if (!words.empty()) words.erase(words.begin());
  std::reverse(words.begin(), words.end());
  try {
    app.parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(absl::StrCat("'", command, "': ", error.what()));
  }
  if (!parsed) return absl::InvalidArgumentError(absl::StrCat("'", command, "' runs nothing"));
  return *parsed;
}

RunOptions OptionsForFile(const RunOptions& options, const v1::Scenario& scenario,
                          const std::string& path) {
  RunOptions out;
  out.scenarios = {path};
  out.kernels = options.kernels;
  out.deterministic = true;
  out.timeout = options.timeout;
  out.warm = options.warm;
  // --scheduler brings arguments of its own; without it, those of the file count.
  out.scheduler = options.scheduler;
  if (!options.scheduler.empty()) {
    out.scheduler_args.assign(scenario.scheduler().args().begin(),
                              scenario.scheduler().args().end());
  }
  return out;
}

}  // namespace ktstr::client
