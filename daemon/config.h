// SPDX-License-Identifier: Apache-2.0
//
// The daemon's configuration and command line. Pure but for the environment and the file named by
// --config. Any thread.

#ifndef KTSTR_DAEMON_CONFIG_H_
#define KTSTR_DAEMON_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ktstr/v1/config.pb.h"

namespace ktstr::daemon {

// Text format of DaemonConfig with every default filled in. Refuses the whole text when anything is
// wrong: InvalidArgument with one "file:line:column: message" per problem, 1-based. `file` is for
// messages only.
absl::StatusOr<v1::DaemonConfig> ParseConfig(const std::string& text, const std::string& file);

// The configuration of an empty file on a machine with `host_cpus` CPUs.
v1::DaemonConfig DefaultConfig(int host_cpus);

// The parsed command line.
struct CommandLine {
  bool private_daemon = false;
  bool help = false;
  bool version = false;
  std::string socket;       // Empty: base::PrivateSocketPath().
  std::string cache_dir;    // Empty: base::CacheDir().
  int ready_fd = -1;        // -1: nobody waits.
  std::string config_file;  // Empty: defaults.
  std::optional<uint32_t> idle_exit_seconds;
};
// `args` without the program's name. InvalidArgument (exit 64) names the argument.
absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& args);
std::string_view UsageText();

// Everything a Server is made from.
struct ServerOptions {
  std::string socket;
  std::string cache_dir;
  v1::DaemonConfig config;    // Defaults filled in.
  std::string vm_program;     // ktstr-vm.
  std::string agent_program;  // ktstr-agent.
  // How long a run with cancel_when_unwatched goes on without a watcher.
  absl::Duration unwatched_grace = absl::Seconds(5);
  // The same for a queued run of an earlier daemon, whose client has to reconnect first.
  absl::Duration restart_grace = absl::Seconds(60);
};
// Reads the configuration file and the environment, and finds ktstr-vm and ktstr-agent beside the
// running executable, else in ../libexec/ktstr.
absl::StatusOr<ServerOptions> MakeServerOptions(const CommandLine& line);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_CONFIG_H_
