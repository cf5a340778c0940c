// SPDX-License-Identifier: Apache-2.0
//
// explain: from which guest time on a failure was certain.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "client/command.h"
#include "client/overrides.h"
#include "client/search/drive.h"
#include "client/search/subject.h"
#include "client/search/turning_point.h"
#include "client/signals.h"
#include "google/protobuf/struct.pb.h"
#include "scenario/json.h"
#include "scenario/perturb.h"
#include "scenario/plan.h"

namespace ktstr::client {
namespace {

struct ExplainOptions {
  std::string run_id;
  uint32_t forks = 8;
  std::string resolution = "20ms";
  uint32_t jobs = 4;
  uint32_t budget_secs = 0;
};

// The subject with another seed from `at_ms` on. 0: from the beginning.
v1::RunSpec Forked(const Subject& subject, uint32_t at_ms, uint32_t number) {
  v1::RunSpec spec = subject.spec;
  v1::Scenario* scenario = spec.mutable_scenario();
  const uint64_t seed = std::max<uint64_t>(1, subject.seed() + number);
  if (at_ms == 0) {
    scenario->set_seed(seed);
  } else {
    v1::SeedFork* fork = scenario->add_seed_fork();
    fork->set_at_ms(at_ms);
    fork->set_seed(seed);
  }
  spec.clear_reproduction();
  return spec;
}

// How many forks at `at_ms` fail as the subject did.
absl::StatusOr<uint32_t> Failures(const Subject& subject, uint32_t at_ms, uint32_t forks,
                                  Trials* trials) {
  std::vector<v1::RunSpec> specs;
  for (uint32_t i = 1; i <= forks; ++i) specs.push_back(Forked(subject, at_ms, i));
  KTSTR_ASSIGN_OR_RETURN(const std::vector<v1::RunRecord> records,
                         trials->Run(std::move(specs), absl::StrCat("forks at +", at_ms, " ms")));
  uint32_t failures = 0;
  for (const v1::RunRecord& record : records) {
    if (record.verdict() == v1::ERROR) {
      return absl::InternalError(absl::StrCat(
          "a fork at +", at_ms,
          " ms ended as ERROR: ", record.findings().empty() ? "" : record.findings(0).message(),
          " (ktstrctl results show ", record.run_id(), ")"));
    }
    failures += SameFailure(subject, record);
  }
  return failures;
}

// The search, with the moments between which it looks.
absl::StatusOr<TurningPoint> Moments(const Subject& subject, const ExplainOptions& options,
                                     uint32_t resolution_ms) {
  const v1::Scenario& scenario = subject.spec.scenario();
  uint32_t first_ms = 0;
  if (scenario.seed_fork_size() > 0) {
    if (scenario.seed_fork_size() >= scenario::kMaxSeedForks) {
      return absl::FailedPreconditionError(
          absl::StrCat(subject.record.run_id(), " has ", scenario.seed_fork_size(),
                       " seed forks already, and no more are possible"));
    }
    first_ms = scenario.seed_fork(scenario.seed_fork_size() - 1).at_ms() + 1;
  }
  const uint64_t seen_ms = subject.record.findings(0).guest_time_ms();
  const uint64_t last_ms = seen_ms > 0 ? std::min<uint64_t>(seen_ms, scenario::DurationMs(scenario))
                                       : scenario::DurationMs(scenario);
  return TurningPoint(first_ms, std::max(first_ms + 1, static_cast<uint32_t>(last_ms)),
                      resolution_ms, options.forks);
}

absl::Status PrintJson(const Subject& subject, const TurningPoint& point, uint32_t forks,
                       Terminal* terminal) {
  google::protobuf::Struct object;
  auto& fields = *object.mutable_fields();
  fields["runId"].set_string_value(subject.record.run_id());
  fields["kind"].set_string_value(subject.key.kind);
  fields["where"].set_string_value(base::SanitizeUtf8(subject.key.where));
  fields["forks"].set_number_value(forks);
  if (point.certain_from()) fields["certainFromMs"].set_number_value(*point.certain_from());
  fields["conclusion"].set_string_value(point.Conclusion());
  for (const auto& [at_ms, failures] : point.points()) {
    google::protobuf::Struct* row =
        fields["points"].mutable_list_value()->add_values()->mutable_struct_value();
    (*row->mutable_fields())["atMs"].set_number_value(at_ms);
    (*row->mutable_fields())["failures"].set_number_value(failures);
  }
  KTSTR_ASSIGN_OR_RETURN(const std::string json, scenario::ToJson(object, /*pretty=*/false));
  terminal->Machine(absl::StrCat(json, "\n"));
  return absl::OkStatus();
}

absl::Status Explain(const ExplainOptions& options, uint32_t resolution_ms, const Session& session,
                     Trials* trials, Terminal* terminal, bool json) {
  KTSTR_ASSIGN_OR_RETURN(Subject subject, SubjectOfRun(session, options.run_id));
  KTSTR_RETURN_IF_ERROR(FailsAgain(&subject, trials));
  KTSTR_ASSIGN_OR_RETURN(TurningPoint point, Moments(subject, options, resolution_ms));
  terminal->Note(absl::StrCat(options.run_id, ": ", base::OneLine(subject.key.Text()), ", seed ",
                              subject.seed()));
  while (const std::optional<uint32_t> at_ms = point.Next()) {
    absl::StatusOr<uint32_t> failures = Failures(subject, *at_ms, options.forks, trials);
    if (!failures.ok()) {
      // The points found so far are a result, too.
      if (!point.points().empty()) terminal->Result(point.TableText());
      return failures.status();
    }
    point.Report(*at_ms, *failures);
    if (!terminal->live()) {
      terminal->Note(
          absl::StrCat("forked at +", *at_ms, " ms: ", *failures, " of ", options.forks, " fail"));
    }
  }
  terminal->Result(absl::StrCat(point.TableText(), point.Conclusion(), "\n"));
  return json ? PrintJson(subject, point, options.forks, terminal) : absl::OkStatus();
}

ExitCode RunExplain(const ExplainOptions& options, const GlobalOptions& global) {
  SignalFd signals;
  const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json);
  const absl::StatusOr<uint32_t> resolution = ParseDurationMs(options.resolution);
  if (!resolution.ok()) {
    return Usage(terminal.get(), absl::InvalidArgumentError(absl::StrCat(
                                     "--resolution: ", resolution.status().message())));
  }
  absl::StatusOr<std::unique_ptr<Session>> session =
      OpenSession(global, terminal.get(), signals.fd());
  if (!session.ok()) return Fail(terminal.get(), session.status());
  const absl::Duration deadline = options.budget_secs == 0 ? absl::InfiniteDuration()
                                                           : base::RealClock()->Monotonic() +
                                                                 absl::Seconds(options.budget_secs);
  Trials trials(session->get(), terminal.get(), &signals, options.jobs, deadline);
  const absl::Status status =
      Explain(options, *resolution, **session, &trials, terminal.get(), global.json);
  if (absl::IsDeadlineExceeded(status) && base::RealClock()->Monotonic() >= deadline) {
    terminal->Error(absl::StrCat("ktstrctl: ", status.message(), " before the answer was found"));
    return kInconclusive;
  }
  return status.ok() ? kOk : Fail(terminal.get(), status);
}

}  // namespace

void AddExplainCommand(CLI::App* app, Action* action) {
  const auto o = std::make_shared<ExplainOptions>();
  CLI::App* explain =
      app->add_subcommand("explain", "From which guest time on a run's failure was certain");
  explain->add_option("RUN", o->run_id, "Id of a run that failed, as `results list` shows it")
      ->required();
  explain->add_option("--forks", o->forks, "Runs with other seeds from each moment on")
      ->check(CLI::Range(1, 1000));
  explain->add_option("--resolution", o->resolution, "Precision of the moment")
      ->type_name("DURATION");
  explain->add_option("-j,--jobs", o->jobs, "Runs in flight at once")->check(CLI::Range(1, 256));
  explain->add_option("--budget-secs", o->budget_secs, "Seconds after which to stop")
      ->check(CLI::Range(1, 604800));
  explain->footer(
      "Forks the run at several moments: a fork equals the failed run up to its moment and has "
      "another seed from there\non. The failure is certain from the moment at which every fork "
      "fails, which may be long before the finding.\n\nExit codes: 0 found, 2 the time "
      "allowed was too short, 69 the run did not fail, 70 it does not fail again.\n\nExample:\n  "
      "ktstrctl explain r-0001");
  explain->callback([action, o] {
    *action = [o](const GlobalOptions& global) { return RunExplain(*o, global); };
  });
}

}  // namespace ktstr::client
