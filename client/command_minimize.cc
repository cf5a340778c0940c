// SPDX-License-Identifier: Apache-2.0
//
// minimize: the smallest scenario that still fails in the same way, as a file.
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "client/bundle/upload.h"
#include "client/command.h"
#include "client/output_file.h"
#include "client/run_flags.h"
#include "client/scenario_source.h"
#include "client/search/drive.h"
#include "client/search/reducer.h"
#include "client/search/subject.h"
#include "client/signals.h"
#include "google/protobuf/struct.pb.h"
#include "scenario/json.h"
#include "scenario/plan.h"
#include "scenario/reproduce.h"
#include "scenario/topology.h"
#include "scenario/work_types.h"

namespace ktstr::client {
namespace {

// Tries in a row whose runs all end as ERROR, after which the search ends.
constexpr int kMaxBrokenTries = 3;

struct MinimizeOptions {
  RunOptions run;
  std::string subject;  // A run or a scenario.
  uint32_t jobs = 4;    // Runs in flight at once.
  uint32_t seeds_per_try = 8;
  uint32_t budget_secs = 0;
  std::string output;
};

std::string Size(const v1::Scenario& scenario) {
  int cgroups = 0;
  for (const v1::Step& step : scenario.step()) cgroups += step.cgroup_size();
  const auto topology = scenario::Topology::FromProto(scenario.topology());
  const auto count = [](size_t n, const char* noun) {
    return absl::StrCat(n, " ", noun, n == 1 ? "" : "s");
  };
  return absl::StrCat(count(scenario.step_size(), "step"), ", ", count(cgroups, "cgroup"), ", ",
                      count(scenario::DeclaredWorkers(scenario).size(), "worker"), ", ",
                      count(topology.ok() ? topology->num_cpus() : 0, "CPU"), ", ",
                      scenario::DurationMs(scenario), " ms");
}

// Whether a finding at `where` is possible: a cgroup without workers has none.
bool HasPlace(const std::string& where, const v1::Scenario& scenario) {
  constexpr absl::string_view kCgroup = "cgroup ";
  if (!absl::StartsWith(where, kCgroup)) return true;
  const std::vector<scenario::DeclaredWorker> workers = scenario::DeclaredWorkers(scenario);
  return std::any_of(workers.begin(), workers.end(), [&](const scenario::DeclaredWorker& worker) {
    return worker.cgroup == where.substr(kCgroup.size());
  });
}

class Minimizer {
 public:
  Minimizer(Subject subject, const MinimizeOptions& options, Trials* trials, Terminal* terminal,
            bool verbose)
      : subject_(std::move(subject)),
        options_(options),
        trials_(trials),
        terminal_(terminal),
        verbose_(verbose),
        reducer_(subject_.spec.scenario()),
        seed_(subject_.seed()) {}

  // Reduces until nothing smaller fails. Best() is valid after Cancelled and DeadlineExceeded, too.
  absl::Status Reduce();
  // The scenario file; comments name its run, its finding and its command.
  std::string FileText(const std::string& path) const;
  // Complete: with the seed, and with the path of the scheduler, valid in every directory.
  v1::Scenario Best() const {
    v1::Scenario best = reducer_.best();
    best.set_seed(seed_);
    const std::string& program = subject_.spec.reproduction().scheduler_program();
    if (best.has_scheduler() && !program.empty()) best.mutable_scheduler()->set_name(program);
    return best;
  }
  v1::Reproduction Reproduction(const std::string& path) const {
    v1::Reproduction run = ReproductionOfFile(subject_.spec.reproduction(), path);
    run.set_seed(seed_);
    return run;
  }
  std::string Command(const std::string& path) const {
    return scenario::ReproduceCommand(Reproduction(path));
  }
  const Subject& subject() const { return subject_; }
  uint64_t seed() const { return seed_; }
  int tried() const { return tried_; }
  int kept() const { return kept_; }

 private:
  // A seed with which the candidate fails at the same place; 0: none of those tried.
  absl::StatusOr<uint64_t> FailingSeed(const v1::Scenario& candidate);
  absl::Status NoteBroken(const std::vector<v1::RunRecord>& records);

  const Subject subject_;
  const MinimizeOptions& options_;
  Trials* const trials_;
  Terminal* const terminal_;
  const bool verbose_;
  Reducer reducer_;
  uint64_t seed_;
  int tried_ = 0;
  int kept_ = 0;
  int broken_ = 0;
};

absl::Status Minimizer::NoteBroken(const std::vector<v1::RunRecord>& records) {
  for (const v1::RunRecord& record : records) {
    if (record.verdict() != v1::ERROR) {
      broken_ = 0;
      return absl::OkStatus();
    }
  }
  if (++broken_ < kMaxBrokenTries) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the last ", kMaxBrokenTries, " tries ended as ERROR: ",
                   records[0].findings().empty() ? "" : records[0].findings(0).message(),
                   " (ktstrctl results show ", records[0].run_id(), ")"));
}

absl::StatusOr<uint64_t> Minimizer::FailingSeed(const v1::Scenario& candidate) {
  if (!HasPlace(subject_.key.where, candidate)) return uint64_t{0};
  const std::string doing =
      absl::StrCat("try ", tried_ + 1, ", kept ", kept_, ": ", base::OneLine(reducer_.change()));
  // The seed that failed last is the best guess and usually fails again: it goes alone.
  for (uint64_t done = 0; done < options_.seeds_per_try;) {
    const uint64_t batch =
        done == 0 ? 1 : std::min<uint64_t>(trials_->jobs(), options_.seeds_per_try - done);
    std::vector<v1::RunSpec> specs;
    for (uint64_t i = 0; i < batch; ++i) {
      v1::RunSpec spec = subject_.spec;
      *spec.mutable_scenario() = candidate;
      // 0 means the default seed.
      spec.mutable_scenario()->set_seed(std::max<uint64_t>(1, seed_ + done + i));
      spec.clear_reproduction();
      specs.push_back(std::move(spec));
    }
    done += batch;
    KTSTR_ASSIGN_OR_RETURN(const std::vector<v1::RunRecord> records,
                           trials_->Run(std::move(specs), doing));
    KTSTR_RETURN_IF_ERROR(NoteBroken(records));
    for (const v1::RunRecord& record : records) {
      if (SameFailure(subject_, record)) return record.variant().seed();
    }
  }
  return uint64_t{0};
}

absl::Status Minimizer::Reduce() {
  while (std::optional<v1::Scenario> candidate = reducer_.Next()) {
    KTSTR_ASSIGN_OR_RETURN(const uint64_t seed, FailingSeed(*candidate));
    ++tried_;
    reducer_.Report(seed != 0);
    if (seed != 0) {
      ++kept_;
      terminal_->Note(absl::StrCat("try ", tried_, ": ", base::OneLine(reducer_.change()),
                                   ": still fails, kept", seed == seed_ ? "" : " with seed ",
                                   seed == seed_ ? "" : absl::StrCat(seed)));
      seed_ = seed;
    } else if (!terminal_->live() || verbose_) {
      terminal_->Note(
          absl::StrCat("try ", tried_, ": ", base::OneLine(reducer_.change()), ": passes"));
    }
  }
  return absl::OkStatus();
}

std::string Minimizer::FileText(const std::string& path) const {
  std::string text;
  google::protobuf::TextFormat::PrintToString(Best(), &text);
  return absl::StrCat("# Made by `ktstrctl minimize` from ", subject_.record.run_id(),
                      ". Fails with\n#   ", base::OneLine(subject_.key.Text()), "\n# by\n#   ",
                      base::OneLine(Command(path)), "\n", text);
}

// Runs the file as a user does: reads its text, finds its scheduler, runs it.
absl::Status Verify(const Minimizer& minimizer, const std::string& path, const Session& session,
                    Trials* trials, Terminal* terminal) {
  const SourcedScenarios sources = LoadScenarios({path});
  if (!sources.problems.empty()) return absl::InternalError(sources.problems[0]);
  v1::RunSpec spec = minimizer.subject().spec;
  const RunOptions options = OptionsOfFile(minimizer.Reproduction(path));
  const absl::StatusOr<RunChoices> choices = ParseChoices(options);
  if (!choices.ok()) return choices.status();
  absl::StatusOr<RunPlan> plan = MakeRunPlan(options, *choices, PlanPlacesOfProcess());
  if (plan.ok()) {
    KTSTR_RETURN_IF_ERROR(UploadPlan(session, *plan, terminal));
    spec = plan->specs[0];
  } else {
    terminal->Note(absl::StrCat("warning: ", plan.status().message(),
                                "; verifying the file with the scheduler of ",
                                minimizer.subject().record.run_id()));
    *spec.mutable_scenario() = sources.scenarios[0].scenario;
    spec.mutable_scenario()->set_seed(minimizer.seed());
  }
  KTSTR_ASSIGN_OR_RETURN(const std::vector<v1::RunRecord> records,
                         trials->Run({spec}, "verifying the file"));
  if (SameFailure(minimizer.subject(), records[0])) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(path, " was written, but run from a clean start (",
                                          records[0].run_id(),
                                          ") it does not fail in the same way"));
}

absl::Status PrintJson(const Minimizer& minimizer, const std::string& path, uint64_t runs,
                       bool complete, Terminal* terminal) {
  google::protobuf::Struct object;
  auto& fields = *object.mutable_fields();
  fields["file"].set_string_value(path);
  fields["seed"].set_string_value(absl::StrCat(minimizer.seed()));
  fields["kind"].set_string_value(minimizer.subject().key.kind);
  fields["where"].set_string_value(base::SanitizeUtf8(minimizer.subject().key.where));
  fields["tried"].set_number_value(minimizer.tried());
  fields["kept"].set_number_value(minimizer.kept());
  fields["runs"].set_number_value(static_cast<double>(runs));
  fields["complete"].set_bool_value(complete);
  fields["reproduce"].set_string_value(minimizer.Command(path));
  KTSTR_ASSIGN_OR_RETURN(const std::string json, scenario::ToJson(object, /*pretty=*/false));
  terminal->Machine(absl::StrCat(json, "\n"));
  return absl::OkStatus();
}

bool HasVariantOptions(const RunOptions& options) {
  return !options.kernels.empty() || !options.seed.empty() ||
         ReproductionOf(options, "").SerializeAsString() !=
             ReproductionOf(RunOptions(), "").SerializeAsString();
}

// The subject of a run's id, or of a scenario, which this function runs.
absl::StatusOr<Subject> FindSubject(const MinimizeOptions& options, const RunPlan& plan,
                                    const Session& session, Trials* trials, Terminal* terminal) {
  if (plan.specs.empty()) {
    KTSTR_ASSIGN_OR_RETURN(Subject subject, SubjectOfRun(session, options.subject));
    KTSTR_RETURN_IF_ERROR(FailsAgain(&subject, trials));
    return subject;
  }
  KTSTR_RETURN_IF_ERROR(UploadPlan(session, plan, terminal));
  KTSTR_ASSIGN_OR_RETURN(const std::vector<v1::RunRecord> records,
                         trials->Run({plan.specs[0]}, "running it"));
  KTSTR_ASSIGN_OR_RETURN(Subject subject, MakeSubject(plan.specs[0], records[0]));
  if (options.run.warm.empty()) KTSTR_RETURN_IF_ERROR(UseAttached(&subject, trials).status());
  return subject;
}

// Reduces, writes, verifies, reports.
absl::Status Minimize(const MinimizeOptions& options, Minimizer* minimizer, const Session& session,
                      Trials* trials, Trials* verifying, Terminal* terminal, bool json) {
  const absl::Duration start = base::RealClock()->Monotonic();
  const v1::Scenario before = minimizer->subject().spec.scenario();
  terminal->Note(absl::StrCat(minimizer->subject().record.run_id(), ": ",
                              base::OneLine(minimizer->subject().key.Text()), ", seed ",
                              minimizer->subject().seed(), "; ", Size(before)));
  absl::Status reduced = minimizer->Reduce();
  const bool early = absl::IsCancelled(reduced) || absl::IsDeadlineExceeded(reduced);
  if (!reduced.ok() && !early) return reduced;
  const std::string path =
      options.output.empty() ? absl::StrCat(before.name(), ".min.ktstr.txtpb") : options.output;
  KTSTR_RETURN_IF_ERROR(WriteOutputFile(path, minimizer->FileText(path)));
  if (early) {
    terminal->Note(
        absl::StrCat(reduced.message(), ": ", path, " holds the smallest scenario found so far"));
  }
  if (absl::IsCancelled(reduced)) return reduced;
  KTSTR_RETURN_IF_ERROR(Verify(*minimizer, path, session, verifying, terminal));
  const uint64_t runs = trials->runs() + verifying->runs();
  terminal->Result(absl::StrCat(
      path, ": ", Size(minimizer->Best()), ", from ", Size(before), "\n  ", minimizer->tried(),
      " candidates tried, ", minimizer->kept(), " kept, ", runs, " runs",
      absl::StrFormat(" in %.1f s\n",
                      absl::ToDoubleSeconds(base::RealClock()->Monotonic() - start)),
      "  ", minimizer->Command(path), "\n"));
  if (!json) return absl::OkStatus();
  return PrintJson(*minimizer, path, runs, !early, terminal);
}

ExitCode RunMinimize(MinimizeOptions options, const GlobalOptions& global) {
  const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json);
  if (absl::Status status = CheckOutputFile("-o", options.output); !status.ok())
    return Fail(terminal.get(), status);
  RunPlan plan;
  if (IsRunId(options.subject) && HasVariantOptions(options.run)) {
    return Usage(terminal.get(), absl::InvalidArgumentError(
                                     absl::StrCat(options.subject,
                                                  ": a run has its kernel, seed and machine; "
                                                  "options for them go with a scenario only")));
  }
  if (!IsRunId(options.subject)) {
    if (options.run.seed.empty()) {
      return Usage(terminal.get(), absl::InvalidArgumentError(absl::StrCat(
                                       options.subject,
                                       ": not the id of a run; for a scenario, --seed names the "
                                       "run of it that fails")));
    }
    options.run.scenarios = {options.subject};
    options.run.deterministic = true;
    options.run.confirm = "off";
    const absl::StatusOr<RunChoices> choices = ParseChoices(options.run);
    if (!choices.ok()) return Usage(terminal.get(), choices.status());
    absl::StatusOr<RunPlan> made = MakeRunPlan(options.run, *choices, PlanPlacesOfProcess());
    if (made.ok() && made->specs.size() != 1)
      made = absl::InvalidArgumentError("minimize takes one scenario and one kernel");
    if (!made.ok()) {
      terminal->Error(made.status().message());
      return kBadInput;
    }
    plan = *std::move(made);
  }
  SignalFd signals;
  absl::StatusOr<std::unique_ptr<Session>> session =
      OpenSession(global, terminal.get(), signals.fd());
  if (!session.ok()) return Fail(terminal.get(), session.status());
  const absl::Duration deadline = options.budget_secs == 0 ? absl::InfiniteDuration()
                                                           : base::RealClock()->Monotonic() +
                                                                 absl::Seconds(options.budget_secs);
  Trials trials(session->get(), terminal.get(), &signals, options.jobs, deadline);
  // Verification may take longer than the time allowed.
  Trials verifying(session->get(), terminal.get(), &signals, 1, absl::InfiniteDuration());
  absl::StatusOr<Subject> subject = FindSubject(options, plan, **session, &trials, terminal.get());
  if (absl::IsDeadlineExceeded(subject.status()) && base::RealClock()->Monotonic() >= deadline) {
    terminal->Error(
        absl::StrCat("ktstrctl: ", subject.status().message(), " before the first reduction"));
    return kInconclusive;
  }
  if (!subject.ok()) return Fail(terminal.get(), subject.status());
  Minimizer minimizer(*std::move(subject), options, &trials, terminal.get(), global.verbose);
  const absl::Status status =
      Minimize(options, &minimizer, **session, &trials, &verifying, terminal.get(), global.json);
  return status.ok() ? kOk : Fail(terminal.get(), status);
}

}  // namespace

void AddMinimizeCommand(CLI::App* app, Action* action) {
  const auto o = std::make_shared<MinimizeOptions>();
  CLI::App* minimize = app->add_subcommand(
      "minimize", "The smallest scenario that still fails in the same way, as a file");
  minimize->add_option("RUN", o->subject, "Id of a run that failed; or a scenario, with --seed")
      ->required();
  minimize->add_option("--seed", o->run.seed, "Seed with which the scenario fails")->type_name("N");
  AddVariantFlags(minimize, &o->run);
  AddWarmFlag(minimize, "attached, where it fails from there too", &o->run);
  minimize->add_option("-j,--jobs", o->jobs, "Runs in flight at once")->check(CLI::Range(1, 256));
  minimize
      ->add_option("--seeds-per-try", o->seeds_per_try,
                   "Seeds to try before a candidate counts as passing, the run's own first")
      ->check(CLI::Range(1, 10000));
  minimize->add_option("--budget-secs", o->budget_secs, "Seconds after which to stop reducing")
      ->check(CLI::Range(1, 604800));
  minimize
      ->add_option("-o,--output", o->output,
                   "File to write (else the scenario's NAME.min.ktstr.txtpb)")
      ->type_name("FILE");
  minimize->footer(
      "Leaves out steps, cgroups, work, settings and disturbances, and lowers workers, duration "
      "and CPUs, while a run\nstill fails with the same finding at the same place. At the end it "
      "runs the file from a clean start.\n\nExit codes: 0 written and verified, 69 the run did "
      "not fail, 70 it does not fail again, 130 interrupted.\n\nExample:\n  ktstrctl minimize "
      "r-0001 -o small.ktstr.txtpb");
  minimize->callback([action, o] {
    *action = [o](const GlobalOptions& global) { return RunMinimize(*o, global); };
  });
}

}  // namespace ktstr::client
