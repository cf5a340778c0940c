// SPDX-License-Identifier: Apache-2.0
//
// check, list, results, version.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/protocol.h"
#include "base/status_macros.h"
#include "client/catalog.h"
#include "client/command.h"
#include "client/kernel_list.h"
#include "client/pieces.h"
#include "client/render.h"
#include "client/scenario_source.h"
#include "google/protobuf/struct.pb.h"
#include "scenario/json.h"

namespace ktstr::client {
namespace {

// One JSON object per line; the keys are the headings.
absl::StatusOr<std::string> RowsAsJson(const Rows& rows) {
  std::string out;
  for (size_t i = 1; i < rows.size(); ++i) {
    google::protobuf::Struct object;
    for (size_t column = 0; column < rows[i].size(); ++column) {
      const std::string key =
          absl::StrJoin(absl::StrSplit(absl::AsciiStrToLower(rows[0][column]), ' '), "_");
      (*object.mutable_fields())[key].set_string_value(rows[i][column]);
    }
    KTSTR_ASSIGN_OR_RETURN(const std::string line, scenario::ToJson(object, /*pretty=*/false));
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

ExitCode PrintRows(Rows rows, const std::string& filter, const GlobalOptions& global) {
  const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json);
  const auto hidden = [&filter](const std::vector<std::string>& row) {
    return !absl::StrContains(row[0], filter);
  };
  rows.erase(std::remove_if(rows.begin() + 1, rows.end(), hidden), rows.end());
  if (!global.json) {
    terminal->Result(Table(rows));
    return kOk;
  }
  const absl::StatusOr<std::string> json = RowsAsJson(rows);
  if (!json.ok()) return Fail(terminal.get(), json.status());
  terminal->Machine(*json);
  return kOk;
}

ExitCode Check(const std::vector<std::string>& files, const GlobalOptions& global) {
  const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json);
  const SourcedScenarios sources = LoadScenarios(files);
  for (const std::string& problem : sources.problems) terminal->Error(problem);
  if (!sources.problems.empty()) return kBadInput;
  for (const SourcedScenario& source : sources.scenarios) {
    terminal->Note(absl::StrCat(source.argument, ": ", source.scenario.name(), " is valid"));
  }
  return kOk;
}

absl::Status ListRuns(const Session& session, uint32_t limit, bool json, Terminal* terminal) {
  v1::ListRunsResponse response;
  KTSTR_RETURN_IF_ERROR(CallPages(session, &v1::Ktstr::StubInterface::ListRuns,
                                  &v1::ListRunsResponse::runs_size, &response,
                                  static_cast<int>(limit)));
  if (!json) {
    terminal->Result(RunsTable(response));
    return absl::OkStatus();
  }
  for (const v1::RunSummary& run : response.runs()) {
    KTSTR_ASSIGN_OR_RETURN(const std::string line, scenario::ToJson(run, /*pretty=*/false));
    terminal->Machine(absl::StrCat(line, "\n"));
  }
  return absl::OkStatus();
}

absl::Status ShowRun(const Session& session, const std::string& run_id, bool json,
                     Terminal* terminal) {
  v1::GetRunRequest request;
  request.set_run_id(run_id);
  v1::GetRunResponse response;
  KTSTR_RETURN_IF_ERROR(GetRun(session, request, &response));
  if (!response.has_record()) {
    return absl::FailedPreconditionError(
        absl::StrCat("run ", run_id, " is ", response.summary().state(),
                     ": it has no record yet. Follow it with `ktstrctl attach ", run_id, "`"));
  }
  if (!json) {
    terminal->Result(RecordText(response.record(), terminal->color()));
    return absl::OkStatus();
  }
  KTSTR_ASSIGN_OR_RETURN(const std::string line,
                         scenario::ToJson(response.record(), /*pretty=*/false));
  terminal->Machine(absl::StrCat(line, "\n"));
  return absl::OkStatus();
}

}  // namespace

void AddCheckCommand(CLI::App* app, Action* action) {
  const auto files = std::make_shared<std::vector<std::string>>();
  CLI::App* check = app->add_subcommand(
      "check", "Validate scenarios; every problem as FILE:LINE:COLUMN: MESSAGE");
  check
      ->add_option("FILE", *files,
                   "Scenario files, directories of them (*.ktstr.txtpb), or canned names")
      ->required();
  check->footer("Example:\n  ktstrctl check steady");
  check->callback(
      [=] { *action = [files](const GlobalOptions& global) { return Check(*files, global); }; });
}

void AddListCommands(CLI::App* app, Action* action) {
  const auto filter = std::make_shared<std::string>();
  CLI::App* list = app->add_subcommand("list", "Scenarios, presets, work types, checks, kernels");
  list->require_subcommand(1);
  list->footer("Example:\n  ktstrctl list presets");
  const auto add = [&](const char* name, const char* description,
                       std::function<ExitCode(const GlobalOptions&)> body) {
    CLI::App* command = list->add_subcommand(name, description);
    command->add_option("--filter", *filter, "Only names that contain this")->type_name("SUB");
    command->footer(absl::StrCat("Example:\n  ktstrctl list ", name));
    command->callback([action, filter, body = std::move(body)] { *action = body; });
  };
  using Global = const GlobalOptions&;
  add("scenarios", "Canned scenarios",
      [filter](Global g) { return PrintRows(ScenarioRows(), *filter, g); });
  add("presets", "Topologies with a name",
      [filter](Global g) { return PrintRows(PresetRows(), *filter, g); });
  add("work-types", "Kinds of load",
      [filter](Global g) { return PrintRows(WorkTypeRows(), *filter, g); });
  add("checks", "Checks and their thresholds",
      [filter](Global g) { return PrintRows(CheckRows(), *filter, g); });
  add("kernels", "Kernels of the cache",
      WithSession([filter](const Session& session, Global g, Terminal* terminal) {
        return PrintKernels(session, g, *filter, terminal);
      }));
}

void AddResultsCommands(CLI::App* app, Action* action) {
  const auto limit = std::make_shared<uint32_t>(100);
  const auto run_id = std::make_shared<std::string>();
  CLI::App* results = app->add_subcommand("results", "Runs and their records");
  results->require_subcommand(1);
  results->footer("Example:\n  ktstrctl results list");
  CLI::App* list = results->add_subcommand("list", "Your runs, newest first");
  list->add_option("--limit", *limit, "Most runs to list")->check(CLI::Range(1, 10000));
  list->footer("Example:\n  ktstrctl results list --limit 20");
  list->callback([=] {
    *action = WithSession(
        [limit](const Session& session, const GlobalOptions& global, Terminal* terminal) {
          return ListRuns(session, *limit, global.json, terminal);
        });
  });
  CLI::App* show =
      results->add_subcommand("show", "The whole record of a run; --json for the record itself");
  show->add_option("RUN", *run_id, "Id of the run, as `results list` shows it")->required();
  show->footer("Example:\n  ktstrctl results show r-0001");
  show->callback([=] {
    *action = WithSession(
        [run_id](const Session& session, const GlobalOptions& global, Terminal* terminal) {
          return ShowRun(session, *run_id, global.json, terminal);
        });
  });
}

void AddVersionCommand(CLI::App* app, Action* action) {
  CLI::App* version = app->add_subcommand("version", "Version of this program and of its protocol");
  version->footer("Example:\n  ktstrctl version");
  version->callback([=] {
    *action = [](const GlobalOptions& global) {
      const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json);
      terminal->Machine(global.json
                            ? absl::StrCat("{\"version\":\"", KTSTR_VERSION,
                                           "\",\"protocolVersion\":", base::kProtocolVersion, "}\n")
                            : absl::StrCat("ktstrctl ", KTSTR_VERSION, " (protocol ",
                                           base::kProtocolVersion, ")\n"));
      return kOk;
    };
  });
}

}  // namespace ktstr::client
