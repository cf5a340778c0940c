// SPDX-License-Identifier: Apache-2.0
//
// explore: deterministic runs of one scenario over seeds.
#include <sys/eventfd.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "client/bundle/upload.h"
#include "client/command.h"
#include "client/render.h"
#include "client/run_flags.h"
#include "client/search/drive.h"
#include "client/search/seed_range.h"
#include "client/search/tally.h"
#include "client/signals.h"

namespace ktstr::client {
namespace {

constexpr absl::Duration kProgressPeriod = absl::Seconds(10);

struct ExploreOptions {
  RunOptions run;
  std::string scenario;
  uint32_t jobs = 8;  // Runs in flight at once.
  std::string seeds;
  uint64_t stop_after = 0;  // 0: no limit.
  uint32_t budget_secs = 0;
  std::string strategy = "uniform";
  bool fresh = false;  // No SubmitRunRequest.reuse.
};

// How a seed becomes a run: a name, and what it adds to the command line of `run`.
struct Strategy {
  std::string name;
  RunOptions options;
  v1::RunSpec spec;  // Of any seed.
};

// The run of one seed.
v1::RunSpec SpecOf(const Strategy& strategy, uint64_t seed) {
  v1::RunSpec spec = strategy.spec;
  spec.mutable_scenario()->set_seed(seed);
  spec.mutable_reproduction()->set_seed(seed);
  return spec;
}

// Counts the runs that end and shows them. Any thread; `terminal` outlives it.
class Explorer : public RunObserver {
 public:
  Explorer(Terminal* terminal, bool json, uint64_t stop_after, SeedRange seeds,
           std::vector<Strategy> strategies)
      : terminal_(terminal),
        json_(json),
        stop_after_(stop_after),
        seeds_(seeds),
        strategies_(std::move(strategies)),
        start_(base::RealClock()->Monotonic()),
        enough_(eventfd(0, EFD_CLOEXEC)),
        tally_(Names(strategies_), runs()) {
    KTSTR_CHECK(enough_.valid()) << "eventfd";
  }

  size_t runs() const { return seeds_.size() * strategies_.size(); }
  // Every strategy tries a seed before the next seed comes. nullopt: there are results enough.
  std::optional<v1::RunSpec> Make(size_t index) {
    base::MutexLock lock(&mutex_);
    if (!stopped_by_.empty()) return std::nullopt;
    return SpecOf(strategies_[index % strategies_.size()],
                  seeds_.first + index / strategies_.size());
  }
  int enough_fd() const { return enough_.get(); }

  void Submitted(size_t index, const std::string& run_id) override {
    base::MutexLock lock(&mutex_);
    strategy_[run_id] = index % strategies_.size();
  }
  void Event(const std::string&, const v1::RunEvent&) override {}
  void Finished(const v1::RunRecord& record) override;
  void Known(size_t index, const v1::RunRecord& record) override {
    base::MutexLock lock(&mutex_);
    AddLocked(index % strategies_.size(), record);
  }
  void Failed(const std::string&, const absl::Status& status) override {
    base::MutexLock lock(&mutex_);
    // What stops one run stops them all.
    if (problem_.ok()) problem_ = status;
    EnoughLocked("a run could not be made");
  }
  void Reconnecting(const absl::Status& why) override {
    terminal_->Note(absl::StrCat("connection lost (", why.message(), "), connecting again"));
  }

  void Tick();
  // Looks at the findings by thresholds at a higher speed of the virtual CPUs. After the search, on
  // the main thread; returns how it ended.
  DriveEnd CheckSpeeds(Trials* trials);
  // Prints the result and returns the exit code for it.
  ExitCode Finish(DriveEnd end);

 private:
  static std::vector<std::string> Names(const std::vector<Strategy>& strategies) {
    std::vector<std::string> names;
    for (const Strategy& strategy : strategies) names.push_back(strategy.name);
    return names;
  }
  void EnoughLocked(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stopped_by_.empty()) stopped_by_ = why;
    const uint64_t one = 1;
    KTSTR_CHECK(write(enough_.get(), &one, sizeof(one)) == sizeof(one)) << "eventfd";
  }
  void AddLocked(size_t strategy, const v1::RunRecord& record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PrintJson(absl::StatusOr<std::string> line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (line.ok()) {
      terminal_->Machine(*line);
    } else if (problem_.ok()) {
      problem_ = line.status();
    }
  }
  absl::Duration Elapsed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return took_.value_or(base::RealClock()->Monotonic() - start_);
  }

  Terminal* const terminal_;
  const bool json_;
  const uint64_t stop_after_;
  const SeedRange seeds_;
  const std::vector<Strategy> strategies_;
  const absl::Duration start_;
  const base::UniqueFd enough_;
  base::Mutex mutex_;
  std::map<std::string, size_t> strategy_ ABSL_GUARDED_BY(mutex_);  // By run in flight.
  Tally tally_ ABSL_GUARDED_BY(mutex_);
  absl::Status problem_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Duration> took_ ABSL_GUARDED_BY(mutex_);  // The search, once it is over.
  std::string stopped_by_ ABSL_GUARDED_BY(mutex_);
  bool header_shown_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration last_progress_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
};

void Explorer::Finished(const v1::RunRecord& record) {
  base::MutexLock lock(&mutex_);
  const auto found = strategy_.find(record.run_id());
  if (found == strategy_.end()) return;
  const size_t strategy = found->second;
  strategy_.erase(found);
  if (!WasCancelled(record)) AddLocked(strategy, record);
}

void Explorer::AddLocked(size_t strategy, const v1::RunRecord& record) {
  tally_.Add(strategy, record);
  if (std::string header = HeaderLine(record); !header_shown_ && !header.empty()) {
    // Without the seed, which is only that of this run.
    terminal_->Note(header.substr(0, header.rfind(", seed")));
    header_shown_ = true;
  }
  if (json_) PrintJson(tally_.RunJson(strategy, record));
  if (record.verdict() != v1::PASS) {
    const std::string why = record.findings().empty() ? "" : KeyOf(record).PlaceText();
    terminal_->Note(absl::StrCat("seed ", record.variant().seed(), " ",
                                 strategies_.size() > 1 ? strategies_[strategy].name + " " : "",
                                 VerdictName(record.verdict()), " ", why, "  ", record.run_id()));
  }
  if (stop_after_ > 0 && tally_.failures() >= stop_after_)
    EnoughLocked(absl::StrCat("--stop-after ", stop_after_));
  if (tally_.Hopeless()) EnoughLocked("the first runs all ended as ERROR");
}

void Explorer::Tick() {
  base::MutexLock lock(&mutex_);
  const absl::Duration elapsed = Elapsed();
  if (terminal_->live()) {
    terminal_->Live(tally_.Progress(elapsed));
  } else if (elapsed - last_progress_ >= kProgressPeriod) {
    last_progress_ = elapsed;
    terminal_->Note(tally_.Progress(elapsed));
  }
}

DriveEnd Explorer::CheckSpeeds(Trials* trials) {
  std::vector<Suspect> suspects;
  {
    base::MutexLock lock(&mutex_);
    took_ = Elapsed();
    if (!problem_.ok()) return DriveEnd::kDone;
    suspects = tally_.Suspects();
  }
  for (const Suspect& suspect : suspects) {
    const absl::StatusOr<SpeedCheck> check =
        CheckSpeed(suspect, strategies_[suspect.strategy].spec, seeds_, trials);
    base::MutexLock lock(&mutex_);
    if (check.ok()) {
      tally_.SetSpeedCheck(suspect, *check);
    } else if (absl::IsCancelled(check.status())) {
      return DriveEnd::kInterrupted;
    } else if (absl::IsDeadlineExceeded(check.status())) {
      return DriveEnd::kBudget;
    } else {
      problem_ = check.status();
      break;
    }
  }
  return DriveEnd::kDone;
}

ExitCode Explorer::Finish(DriveEnd end) {
  base::MutexLock lock(&mutex_);
  if (end == DriveEnd::kInterrupted) stopped_by_ = "interrupt";
  if (end == DriveEnd::kBudget && stopped_by_.empty()) stopped_by_ = "--budget-secs";
  if (!stopped_by_.empty()) terminal_->Note(absl::StrCat("stopped by ", stopped_by_));
  // Without any run, the problem is the whole result.
  if (problem_.ok() || tally_.done() > 0) terminal_->Result(tally_.Report(Elapsed()));
  if (json_) PrintJson(tally_.SummaryJson(Elapsed(), stopped_by_));
  ExitCode code = tally_.Code();
  if (!problem_.ok()) {
    const ExitCode failed = Fail(terminal_, problem_);
    if (code != kFail) code = failed;
  }
  return end == DriveEnd::kInterrupted ? kInterrupted : code;
}

// Turns PCT on and leaves disturbances off that the scenario does not ask for.
std::vector<std::string> PctSets(const v1::Scenario& scenario) {
  std::vector<std::string> sets;
  if (!scenario.has_perturb()) sets.push_back("perturb.intensity=0");
  if (!scenario.perturb().pct().has_change_points()) {
    sets.push_back("perturb.pct.change_points=3");
  }
  return sets;
}

// Plans the scenario for one strategy. InvalidArgument holds the problems, one a line.
absl::StatusOr<RunPlan> PlanOf(Strategy* strategy) {
  const absl::StatusOr<RunChoices> choices = ParseChoices(strategy->options);
  if (!choices.ok()) return choices.status();
  absl::StatusOr<RunPlan> plan = MakeRunPlan(strategy->options, *choices, PlanPlacesOfProcess());
  if (!plan.ok()) return plan.status();
  if (plan->specs.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(strategy->options.scenarios[0], ": ", plan->specs.size(),
                     " scenarios; explore searches one at a time: name its file"));
  }
  v1::RunSpec& spec = strategy->spec;
  spec = plan->specs[0];
  if (strategy->options.warm.empty() && spec.scenario().has_scheduler()) {
    spec.set_warm(v1::WARM_ATTACHED);
    spec.mutable_reproduction()->set_warm("attached");
  }
  return plan;
}

ExitCode Explore(ExploreOptions options, const GlobalOptions& global) {
  const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json);
  const absl::StatusOr<SeedRange> seeds = ParseSeedRange(options.seeds);
  if (!seeds.ok())
    return Usage(terminal.get(),
                 absl::InvalidArgumentError(absl::StrCat("--seeds: ", seeds.status().message())));
  if (options.run.kernels.size() > 1) {
    return Usage(terminal.get(),
                 absl::InvalidArgumentError("--kernel: explore takes one kernel at a time"));
  }
  options.run.scenarios = {options.scenario};
  options.run.deterministic = true;
  // The search confirms what it found: the rate over many seeds says more than four runs of each.
  const bool confirm = std::exchange(options.run.confirm, "off") != "off";
  // Wrong values of options show here, those of the scenario below.
  if (absl::StatusOr<RunChoices> choices = ParseChoices(options.run); !choices.ok())
    return Usage(terminal.get(), choices.status());
  Strategy plain = {"uniform", options.run, {}};
  absl::StatusOr<RunPlan> plan = PlanOf(&plain);
  std::vector<Strategy> strategies;
  if (plan.ok() && options.strategy != "pct") strategies.push_back(plain);
  if (plan.ok() && options.strategy != "uniform") {
    Strategy pct = {"pct", options.run, {}};
    for (std::string& set : PctSets(plain.spec.scenario())) pct.options.sets.push_back(set);
    plan = PlanOf(&pct);
    strategies.push_back(std::move(pct));
  }
  if (!plan.ok()) {
    terminal->Error(plan.status().message());
    return kBadInput;
  }
  for (const std::string& warning : plan->warnings)
    terminal->Note(absl::StrCat("warning: ", warning));
  SignalFd signals;
  absl::StatusOr<std::unique_ptr<Session>> session =
      OpenSession(global, terminal.get(), signals.fd());
  if (!session.ok()) return Fail(terminal.get(), session.status());
  if (absl::Status status = UploadPlan(**session, *plan, terminal.get()); !status.ok())
    return Fail(terminal.get(), status);

  Explorer explorer(terminal.get(), global.json, options.stop_after, *seeds, std::move(strategies));
  RunFlowOptions flow_options;
  flow_options.in_flight = options.jobs;
  flow_options.reuse = !options.fresh;
  DriveOptions drive;
  drive.enough_fd = explorer.enough_fd();
  drive.tick = [&explorer] { explorer.Tick(); };
  if (options.budget_secs > 0) {
    drive.deadline = base::RealClock()->Monotonic() + absl::Seconds(options.budget_secs);
  }
  DriveEnd end;
  {
    RunFlow flow(session->get(), &explorer, flow_options);
    flow.Submit(explorer.runs(), [&explorer](size_t index) { return explorer.Make(index); });
    end = Drive(&flow, terminal.get(), &signals, drive);
  }
  if (confirm && (end == DriveEnd::kDone || end == DriveEnd::kEnough)) {
    Trials trials(session->get(), terminal.get(), &signals, options.jobs, drive.deadline,
                  /*reuse=*/!options.fresh);
    if (const DriveEnd checked = explorer.CheckSpeeds(&trials); checked != DriveEnd::kDone) {
      end = checked;
    }
  }
  return explorer.Finish(end);
}

}  // namespace

void AddExploreCommand(CLI::App* app, Action* action) {
  const auto o = std::make_shared<ExploreOptions>();
  CLI::App* explore = app->add_subcommand(
      "explore", "Deterministic runs of one scenario over seeds; failing seeds as commands");
  explore->add_option("SCENARIO", o->scenario, "A scenario file or a canned name")->required();
  explore->add_option("--seeds", o->seeds, "First and last seed to try")
      ->type_name("A..B")
      ->required();
  AddVariantFlags(explore, &o->run);
  AddWarmFlag(explore, "attached", &o->run);
  explore
      ->add_option("-j,--jobs", o->jobs,
                   "Runs in flight at once; the daemon starts as many as it has slots")
      ->check(CLI::Range(1, 256));
  explore->add_option("--stop-after", o->stop_after, "Failures after which to stop")
      ->check(CLI::Range(uint64_t{1}, kMaxSeeds));
  explore->add_option("--budget-secs", o->budget_secs, "Seconds after which to stop")
      ->check(CLI::Range(1, 604800));
  explore
      ->add_option("--confirm", o->run.confirm,
                   "Whether a finding by nothing but thresholds is looked for at four times the "
                   "speed of a virtual CPU when the search is over")
      ->type_name("auto|off")
      ->check(CLI::IsMember({"auto", "off"}));
  explore->add_flag("--fresh", o->fresh,
                    "Make the run of every seed, also of those that an earlier search has tried");
  explore
      ->add_option("--strategy", o->strategy,
                   "uniform: the scenario as it is; pct: with workers' priorities that change at "
                   "random times; both")
      ->type_name("uniform|pct|both")
      ->check(CLI::IsMember({"uniform", "pct", "both"}));
  explore->footer(
      "Two failures are the same finding when kind, place and message are equal, apart from "
      "numbers. A rate comes\nwith its 95 % interval (Wilson's score interval). Every command in "
      "the report fails again in the same way.\n\n"
      "The same search issued again goes on where it stopped: it knows the results of the seeds "
      "that it has tried,\nuntil kernel, scheduler, scenario or ktstr change.\n\nExit codes: 0 no "
      "failure, 1 failures, "
      "2 inconclusive, 130 interrupted; others as of `run`.\n\nExample:\n  ktstrctl explore steady "
      "--seeds 1..3 --duration 200ms");
  explore->callback(
      [action, o] { *action = [o](const GlobalOptions& global) { return Explore(*o, global); }; });
}

}  // namespace ktstr::client
