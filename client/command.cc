// SPDX-License-Identifier: Apache-2.0
#include "client/command.h"

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/paths.h"
#include "base/status_macros.h"
#include "client/private_daemon.h"

namespace ktstr::client {
namespace {

// Rewrites the command line so that CLI11 reads every value correctly. Joins --sched-arg and its
// value, which may look like an option of ours ("--sched-arg --slice-us"). Separates an empty value
// from its option: for "--option=" CLI11 would take the next word.
std::vector<std::string> PreparedWords(int argc, const char* const* argv) {
  std::vector<std::string> out;
  bool options = true;  // Until "--".
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    options = options && word != "--";
    if (options && word == "--sched-arg" && i + 1 < argc) {
      word = absl::StrCat(word, "=", argv[++i]);
    }
    const bool empty_value = options && absl::StartsWith(word, "--") &&
                             word.find('=') == word.size() - 1 && word.size() > 3;
    if (empty_value) word.pop_back();
    out.push_back(std::move(word));
    if (empty_value) out.emplace_back();
  }
  return out;
}

// Makes an empty value an error for every option and argument of `app` and its subcommands:
// otherwise it counts as not given. A scheduler's argument may be empty.
void RefuseEmptyValues(CLI::App* app) {
  const CLI::Validator not_empty(
      [](const std::string& value) {
        return std::string(value.empty() ? "the value is empty" : "");
      },
      "");
  for (CLI::Option* option : app->get_options()) {
    if (option->get_items_expected_max() > 0 && !option->check_lname("sched-arg")) {
      option->transform(not_empty);  // Before the option's own checks.
    }
  }
  for (CLI::App* command : app->get_subcommands(nullptr)) RefuseEmptyValues(command);
}

void AddGlobalOptions(CLI::App* app, GlobalOptions* global, std::string* color) {
  app->add_option("--socket", global->socket,
                  "Socket of the daemon (else KTSTR_SOCKET, the system's, a private one)")
      ->type_name("PATH");
  app->add_flag("--json", global->json,
                "Print results as JSON on stdout; everything else goes to stderr");
  CLI::Option* verbose =
      app->add_flag("-v,--verbose", global->verbose, "Print more while the command runs");
  app->add_flag("-q,--quiet", global->quiet, "Print errors and results only")->excludes(verbose);
  app->add_option("--color", *color,
                  "When to use colours (auto: on a terminal, unless NO_COLOR is set)")
      ->type_name("auto|always|never")
      ->check(CLI::IsMember({"auto", "always", "never"}));
}

// Some errors of CLI11 have several lines; an error of ktstrctl is one paragraph.
std::string OneParagraph(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"\n", " "}});
}

std::string CommandPath(const CLI::App& app) {
  std::string path = "ktstrctl";
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    absl::StrAppend(&path, " ", at->get_name());
  }
  return path;
}

ExitCode OutputLost() {
  std::cerr << "ktstrctl: standard output could not be written (closed, or the disk is full)\n";
  return kHarness;
}

// Parses. Returns the exit code when nothing is left to do (help, a wrong option).
std::optional<int> Parse(CLI::App* app, std::vector<std::string> args) {
  std::vector<std::string> reversed(args.rbegin(), args.rend());
  try {
    app->parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      app->exit(error);
      std::cout.flush();
      return std::cout.good() ? kOk : OutputLost();
    }
    // An unknown argument is the better reason: it may be the required one, misspelt.
    const std::vector<std::string> unknown = app->remaining(/*recurse=*/true);
    const std::string why = unknown.empty()
                                ? OneParagraph(error.what())
                                : absl::StrCat("unknown argument '", unknown.front(), "'");
    const std::string path = CommandPath(*app);
    std::cerr << path << ": " << why << ". See `" << path << " --help`.\n";
    return kUsage;
  }
  return std::nullopt;
}

}  // namespace

std::unique_ptr<Terminal> MakeTerminal(const GlobalOptions& global, bool machine) {
  TerminalOptions options;
  options.color = global.color;
  options.machine_stdout = machine;
  options.quiet = global.quiet;
  options.output_lost = global.output_lost;
  return std::make_unique<Terminal>(options);
}

absl::StatusOr<std::unique_ptr<Session>> OpenSession(const GlobalOptions& global,
                                                     Terminal* terminal, int interrupt_fd) {
  ConnectOptions options;
  options.socket = global.socket;
  options.private_socket = base::PrivateSocketPath(&getenv, geteuid());
  options.interrupt_fd = interrupt_fd;
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                         Session::Open([options] { return Connect(options); }, interrupt_fd));
  const v1::HandshakeResponse& daemon = session->connection()->daemon();
  const std::string wanted = base::Env("KTSTR_CACHE_DIR");
  if (daemon.private_daemon() && !wanted.empty() && wanted != daemon.cache_dir()) {
    terminal->Note(absl::StrCat(
        "warning: the running private daemon (pid ", daemon.daemon_pid(), ") uses the cache ",
        daemon.cache_dir(), ", not KTSTR_CACHE_DIR=", wanted, "; end it (kill ",
        daemon.daemon_pid(), ") or set XDG_RUNTIME_DIR to start another one"));
  }
  if (global.verbose) {
    terminal->Note(absl::StrCat("daemon: ", session->connection()->socket(), ", ",
                                daemon.daemon_version(), ", pid ", daemon.daemon_pid(), ", cache ",
                                daemon.cache_dir(), ", runs ", daemon.runs_dir()));
  }
  return session;
}

ExitCode Fail(Terminal* terminal, const absl::Status& status) {
  terminal->Error(absl::StrCat("ktstrctl: ", status.message()));
  return ExitCodeOf(status);
}

ExitCode Usage(Terminal* terminal, const absl::Status& status) {
  terminal->Error(absl::StrCat("ktstrctl: ", status.message()));
  return kUsage;
}

int Main(int argc, const char* const* argv) {
  GlobalOptions global;
  std::string color = "auto";
  Action action;
  CLI::App app(
      "Tests of Linux schedulers: boots a kernel in a virtual machine, runs a scheduler under load "
      "in it, and reports\n"
      "pass or fail, with the reasons.",
      "ktstrctl");
  app.fallthrough();
  app.require_subcommand(1);
  app.footer(
      "Example:\n  ktstrctl run steady\n\nExit codes: 0 passed or skipped, 1 FAIL, 2 INCONCLUSIVE, "
      "64 wrong flags, 65 "
      "invalid input,\n69 something needed is not there, 70 ERROR of the harness, 75 contended, "
      "130 interrupted.");
  AddGlobalOptions(&app, &global, &color);
  AddRunCommands(&app, &action);
  AddExploreCommand(&app, &action);
  AddMinimizeCommand(&app, &action);
  AddExplainCommand(&app, &action);
  AddCheckCommand(&app, &action);
  AddListCommands(&app, &action);
  AddKernelCommands(&app, &action);
  AddSnapshotsCommands(&app, &action);
  AddResultsCommands(&app, &action);
  AddVersionCommand(&app, &action);
  RefuseEmptyValues(&app);
  if (const std::optional<int> code = Parse(&app, PreparedWords(argc, argv))) return *code;
  if (color == "always") global.color = ColorMode::kAlways;
  if (color == "never") global.color = ColorMode::kNever;
  if (global.socket.empty()) global.socket = base::Env("KTSTR_SOCKET");
  std::atomic<bool> output_lost = false;
  global.output_lost = &output_lost;
  const ExitCode code = action(global);
  // A failure of a run and an interruption matter more than lost output.
  return output_lost && code != kFail && code != kInterrupted ? OutputLost() : code;
}

}  // namespace ktstr::client
