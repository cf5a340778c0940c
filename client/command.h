// SPDX-License-Identifier: Apache-2.0
//
// What all commands of ktstrctl share. An Add… function adds a command to the command line; parsing
// stores the action of the command, which runs afterwards. Main thread only.

#ifndef KTSTR_CLIENT_COMMAND_H_
#define KTSTR_CLIENT_COMMAND_H_

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/protocol.h"
#include "client/call.h"
#include "client/connect.h"
#include "client/exit_codes.h"
#include "client/signals.h"
#include "client/terminal.h"

namespace ktstr::client {

struct GlobalOptions {
  std::string socket;  // --socket, else KTSTR_SOCKET.
  bool json = false;
  bool verbose = false;
  bool quiet = false;
  ColorMode color = ColorMode::kAuto;
  // Terminals set it when they cannot write to stdout. Owned by Main.
  std::atomic<bool>* output_lost = nullptr;
};

using Action = std::function<ExitCode(const GlobalOptions&)>;

void AddRunCommands(CLI::App* app, Action* action);        // run, attach, cancel
void AddExploreCommand(CLI::App* app, Action* action);     // explore
void AddMinimizeCommand(CLI::App* app, Action* action);    // minimize
void AddExplainCommand(CLI::App* app, Action* action);     // explain
void AddCheckCommand(CLI::App* app, Action* action);       // check
void AddListCommands(CLI::App* app, Action* action);       // list …
void AddKernelCommands(CLI::App* app, Action* action);     // kernel …
void AddSnapshotsCommands(CLI::App* app, Action* action);  // snapshots …
void AddResultsCommands(CLI::App* app, Action* action);    // results …
void AddVersionCommand(CLI::App* app, Action* action);     // version

// The whole program: parses the arguments, runs the command, returns the exit code.
int Main(int argc, const char* const* argv);

// A terminal for the output of a command; `machine`: a program reads stdout, people read stderr.
std::unique_ptr<Terminal> MakeTerminal(const GlobalOptions& global, bool machine);

// Connects to the daemon of this command line. Warns when a private daemon uses another cache than
// KTSTR_CACHE_DIR.
absl::StatusOr<std::unique_ptr<Session>> OpenSession(const GlobalOptions& global,
                                                     Terminal* terminal, int interrupt_fd);

// Prints "ktstrctl: MESSAGE" on stderr and returns the exit code for it.
ExitCode Fail(Terminal* terminal, const absl::Status& status);
ExitCode Usage(Terminal* terminal, const absl::Status& status);

// An action that needs a session and returns a status. A signal ends it with exit code 130.
template <typename Body>
Action WithSession(Body body) {
  return [body](const GlobalOptions& global) {
    SignalFd signals;
    const std::unique_ptr<Terminal> terminal = MakeTerminal(global, global.json);
    absl::StatusOr<std::unique_ptr<Session>> session =
        OpenSession(global, terminal.get(), signals.fd());
    const absl::Status status =
        session.ok() ? body(**session, global, terminal.get()) : session.status();
    return status.ok() ? kOk : Fail(terminal.get(), status);
  };
}

// One unary call on the session's connection. A deadline or a signal ends it, too.
template <typename Request, typename Response>
absl::Status Call(const Session& session,
                  grpc::Status (v1::Ktstr::StubInterface::*method)(grpc::ClientContext*,
                                                                   const Request&, Response*),
                  const Request& request, Response* response, absl::Duration limit = kCallLimit) {
  GuardedCall call(session.interrupt_fd(), limit);
  const std::shared_ptr<Connection> connection = session.connection();
  return call.Finish((connection->stub()->*method)(call.context(), request, response));
}

// A paged list: entries of all pages, or the first `count`, are merged into `all`.
template <typename Request, typename Response>
absl::Status CallPages(const Session& session,
                       grpc::Status (v1::Ktstr::StubInterface::*method)(grpc::ClientContext*,
                                                                        const Request&, Response*),
                       int (Response::*size)() const, Response* all,
                       int count = std::numeric_limits<int>::max()) {
  Request request;
  do {
    request.set_page_size(std::min(count - (all->*size)(), base::kMaxPageSize));
    Response page;
    if (absl::Status status = Call(session, method, request, &page); !status.ok()) return status;
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all->MergeFrom(page);
  } while (!request.page_token().empty() && (all->*size)() < count);
  return absl::OkStatus();
}

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_COMMAND_H_
