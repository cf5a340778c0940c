// SPDX-License-Identifier: Apache-2.0
//
// run, attach, cancel.
#include <poll.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/paths.h"
#include "base/status_macros.h"
#include "client/bundle/upload.h"
#include "client/command.h"
#include "client/output_file.h"
#include "client/pieces.h"
#include "client/run_flags.h"
#include "client/run_reporter.h"
#include "client/search/repeat_check.h"
#include "client/signals.h"

namespace ktstr::client {
namespace {

constexpr int kTickMs = 200;

// Follows the flow to its end. The first signal cancels the runs, or leaves those that another
// command submitted; the second leaves. True when a signal came.
bool Wait(RunFlow* flow, RunReporter* reporter, Terminal* terminal, SignalFd* signals,
          bool cancel_on_signal) {
  bool interrupted = false;
  while (!flow->done()) {
    reporter->Tick();
    pollfd fds[2] = {{signals->fd(), POLLIN, 0}, {flow->done_fd(), POLLIN, 0}};
    poll(fds, 2, terminal->live() ? kTickMs : -1);
    if (!signals->Take()) continue;
    if (interrupted || !cancel_on_signal) {
      flow->Leave();
      return true;
    }
    interrupted = true;
    terminal->Note("cancelling; waiting for the records (interrupt again to leave at once)");
    flow->Cancel("interrupted by the user");
  }
  return interrupted;
}

absl::Status CancelRun(const Session& session, const std::string& run_id,
                       const std::string& reason) {
  v1::CancelRunRequest request;
  request.set_run_id(run_id);
  request.set_reason(reason);
  v1::CancelRunResponse response;
  return Call(session, &v1::Ktstr::StubInterface::CancelRun, request, &response);
}

// Submits the runs and prints their ids. After a signal it cancels the runs submitted so far; the
// daemon cancels a run whose id it could not deliver.
absl::Status SubmitDetached(const Session& session, const std::vector<v1::RunSpec>& specs,
                            bool reuse, bool json, Terminal* terminal, SignalFd* signals) {
  std::vector<std::string> submitted;
  absl::Status status;
  for (const v1::RunSpec& spec : specs) {
    v1::SubmitRunRequest request;
    *request.mutable_spec() = spec;
    request.set_reuse(reuse);
    v1::SubmitRunResponse response;
    status = Call(session, &v1::Ktstr::StubInterface::SubmitRun, request, &response, kSubmitLimit);
    if (!status.ok()) break;
    if (!response.known()) submitted.push_back(response.run_id());
    terminal->Machine(json ? absl::StrCat("{\"runId\":\"", response.run_id(), "\"}\n")
                           : absl::StrCat(response.run_id(), "\n"));
    if (!WaitReadable(signals->fd(), absl::ZeroDuration())) continue;
    status = Interrupted();
    break;
  }
  if (!absl::IsCancelled(status) || submitted.empty()) return status;
  // Consumed, so that only another signal ends the calls below.
  signals->Take();
  terminal->Note(absl::StrCat("cancelling the runs submitted so far: ", submitted.size()));
  for (const std::string& run_id : submitted) {
    const absl::Status cancelled = CancelRun(session, run_id, "interrupted by the user");
    if (!cancelled.ok()) return base::Annotate(cancelled, absl::StrCat("cancel of run ", run_id));
  }
  return status;
}

// The first difference between the observations of two runs, or why it is not known.
std::string DifferenceOf(const Session& session, const RepeatGroup& group) {
  v1::GetRunResponse runs[2];
  const std::string ids[2] = {group.first.run_id(), group.differing.run_id()};
  for (int i = 0; i < 2; ++i) {
    v1::GetRunRequest request;
    request.set_run_id(ids[i]);
    request.set_with_observations(true);
    const absl::Status status = GetRun(session, request, &runs[i]);
    if (!status.ok()) return absl::StrCat("not known: ", status.message());
  }
  return FirstDifference(runs[0].observations(), runs[1].observations());
}

std::string StartOf(v1::Timings::Start start) {
  if (start == v1::Timings::ATTACHED) return " from a snapshot with the scheduler attached";
  return start == v1::Timings::RESTORE ? " from a snapshot" : " from a cold boot";
}

// Reports whether repeated runs under virtual time left the same guest memory.
void CompareRepeats(const Session& session, RunReporter* reporter, Terminal* terminal) {
  const RepeatCheck check = CheckRepeats(reporter->records());
  for (const std::string& line : check.left_out) terminal->Note(line);
  for (const RepeatGroup& group : check.groups) {
    const std::string what = absl::StrCat(
        group.first.scenario(), ", seed ", group.first.variant().seed(), ": ", group.compared,
        group.compared == 1 ? " run" : " runs", StartOf(group.first.timings().start()));
    if (group.differs()) {
      reporter->Compared(NondeterminismRecord(group, DifferenceOf(session, group)));
    } else if (group.compared == 1) {
      terminal->Note(absl::StrCat(what, ", so there is no other run to compare it with"));
    } else {
      terminal->Result(absl::StrCat(what, " left the same guest memory (",
                                    group.first.guest_digest().substr(0, 12), ")\n"));
    }
  }
}

ExitCode Run(const RunFlags& flags, const GlobalOptions& global) {
  const RunOptions& options = flags.run;
  const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json || flags.ktap);
  if (flags.ktap && global.json) {
    return Usage(terminal.get(),
                 absl::InvalidArgumentError("--ktap and --json both want stdout: choose one"));
  }
  if (flags.reuse && options.repeat > 1) {
    return Usage(terminal.get(), absl::InvalidArgumentError(
                                     "--reuse with --repeat: runs are repeated to be compared, and "
                                     "a known one is not made. Leave one of them out"));
  }
  if (flags.reuse && options.dmesg) {
    return Usage(terminal.get(), absl::InvalidArgumentError(
                                     "--reuse with --dmesg: a known run is not made and prints no "
                                     "kernel log. Leave one of them out"));
  }
  absl::StatusOr<RunChoices> choices = ParseChoices(options);
  if (!choices.ok()) return Usage(terminal.get(), choices.status());
  const std::string sidecars =
      flags.output_directory.empty() ? base::Env("KTSTR_SIDECAR_DIR") : flags.output_directory;
  for (const absl::Status& status :
       {CheckOutputFile("--junit", flags.junit),
        CheckOutputDirectory(flags.output_directory.empty() ? "KTSTR_SIDECAR_DIR" : "-o",
                             sidecars)}) {
    if (!status.ok()) return Fail(terminal.get(), status);
  }
  absl::StatusOr<RunPlan> plan = MakeRunPlan(options, *choices, PlanPlacesOfProcess());
  if (!plan.ok()) {
    // Problems of scenarios keep the compilers' form FILE:LINE:COLUMN, so that editors find them.
    terminal->Error(plan.status().message());
    return kBadInput;
  }
  for (const std::string& warning : plan->warnings)
    terminal->Note(absl::StrCat("warning: ", warning));
  // From here on a signal ends calls of the daemon; before, it ends the program.
  SignalFd signals;
  if (choices->seed_drawn) terminal->Note(absl::StrCat("seed ", *choices->overrides.seed));
  absl::StatusOr<std::unique_ptr<Session>> session =
      OpenSession(global, terminal.get(), signals.fd());
  if (!session.ok()) return Fail(terminal.get(), session.status());
  if (absl::Status status = UploadPlan(**session, *plan, terminal.get()); !status.ok())
    return Fail(terminal.get(), status);
  if (options.detach) {
    const absl::Status status =
        SubmitDetached(**session, plan->specs, flags.reuse, global.json, terminal.get(), &signals);
    return status.ok() ? kOk : Fail(terminal.get(), status);
  }
  ReportOptions report;
  report.json = global.json;
  report.ktap = flags.ktap;
  report.verbose = global.verbose;
  report.junit_file = flags.junit;
  report.sidecar_directory = sidecars;
  report.policy = flags.policy;
  RunReporter reporter(terminal.get(), report, plan->specs.size());
  RunFlowOptions flow_options;
  flow_options.in_flight = flags.jobs;
  flow_options.reuse = flags.reuse;
  bool interrupted = false;
  {
    RunFlow flow(session->get(), &reporter, flow_options);
    flow.Submit(std::move(plan->specs));
    interrupted = Wait(&flow, &reporter, terminal.get(), &signals, /*cancel_on_signal=*/true);
  }
  if (options.repeat > 1 && !interrupted) CompareRepeats(**session, &reporter, terminal.get());
  const ExitCode code = reporter.Finish();
  return interrupted ? kInterrupted : code;
}

ExitCode Attach(const std::string& run_id, const GlobalOptions& global) {
  SignalFd signals;
  const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json);
  absl::StatusOr<std::unique_ptr<Session>> session =
      OpenSession(global, terminal.get(), signals.fd());
  if (!session.ok()) return Fail(terminal.get(), session.status());
  ReportOptions report;
  report.json = global.json;
  report.verbose = global.verbose;
  RunReporter reporter(terminal.get(), report, 1);
  {
    RunFlow flow(session->get(), &reporter, RunFlowOptions());
    flow.Follow({run_id});
    if (Wait(&flow, &reporter, terminal.get(), &signals, /*cancel_on_signal=*/false))
      return kInterrupted;
  }
  return reporter.Finish();
}

}  // namespace

void AddRunCommands(CLI::App* app, Action* action) {
  AddRunFlags(app, [action](const RunFlags& flags) {
    *action = [flags](const GlobalOptions& global) { return Run(flags, global); };
  });
  const auto run_id = std::make_shared<std::string>();
  CLI::App* attach =
      app->add_subcommand("attach", "Follow a run to its end; Ctrl-C leaves it running");
  attach->add_option("RUN", *run_id, "Id of the run, as `results list` shows it")->required();
  attach->footer("Example:\n  ktstrctl attach r-0001");
  attach->callback([action, run_id] {
    *action = [run_id](const GlobalOptions& global) { return Attach(*run_id, global); };
  });
  CLI::App* cancel =
      app->add_subcommand("cancel", "Stop a run; a run that has ended already is no error");
  cancel->add_option("RUN", *run_id, "Id of the run, as `results list` shows it")->required();
  cancel->footer("Example:\n  ktstrctl cancel r-0001");
  cancel->callback([action, run_id] {
    *action = WithSession(
        [run_id](const Session& session, const GlobalOptions&, Terminal* terminal) -> absl::Status {
          KTSTR_RETURN_IF_ERROR(CancelRun(session, *run_id, "ktstrctl cancel"));
          terminal->Note(absl::StrCat(*run_id, " cancelled"));
          return absl::OkStatus();
        });
  });
}

}  // namespace ktstr::client
