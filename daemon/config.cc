// SPDX-License-Identifier: Apache-2.0
#include "daemon/config.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/status_macros.h"
#include "scenario/parse_text.h"

namespace ktstr::daemon {
namespace {

constexpr size_t kMaxConfigBytes = 64 << 10;

bool IsSuiteName(std::string_view text) {
  return !text.empty() && text.size() <= 64 && absl::ascii_isalnum(text[0]) &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
         });
}

std::vector<scenario::Problem> CheckConfig(const v1::DaemonConfig& config) {
  std::vector<scenario::Problem> problems;
  const auto add = [&problems](std::string field, std::string message) {
    scenario::Problem& problem = problems.emplace_back();
    problem.field = std::move(field);
    problem.message = std::move(message);
  };
  for (const auto& [name, limit] : {std::pair<const char*, uint32_t>{"max_running_vms", 1024},
                                    {"idle_exit_seconds", 7 * 24 * 3600},
                                    {"max_queued_runs", 1000000},
                                    {"max_kept_runs", 1000000},
                                    {"prepared_vms", 64}}) {
    const auto* field = v1::DaemonConfig::descriptor()->FindFieldByName(name);
    const uint32_t value = config.GetReflection()->GetUInt32(config, field);
    if (value > limit) add(name, absl::StrCat(name, " is ", value, ", at most ", limit));
  }
  for (int i = 0; i < config.kernel_suites_size(); ++i) {
    if (IsSuiteName(config.kernel_suites(i))) continue;
    add(absl::StrCat("kernel_suites[", i, "]"),
        absl::StrCat("kernel_suites: '", config.kernel_suites(i), "' is not the name of a suite"));
  }
  return problems;
}

void FillDefaults(v1::DaemonConfig* config, int host_cpus) {
  // Software emulation keeps one CPU busy, however many the guest has.
  if (config->max_running_vms() == 0) config->set_max_running_vms(std::max(1, host_cpus));
  if (!config->has_idle_exit_seconds()) config->set_idle_exit_seconds(600);
  if (config->max_queued_runs() == 0) config->set_max_queued_runs(10000);
  if (config->blob_budget_mb() == 0) config->set_blob_budget_mb(4096);
  if (config->qemu_path().empty()) config->set_qemu_path("qemu-system-x86_64");
  if (config->kernel_suites().empty()) config->add_kernel_suites("trixie-backports");
  if (config->max_kept_runs() == 0) config->set_max_kept_runs(10000);
  if (config->run_budget_mb() == 0) config->set_run_budget_mb(4096);
  if (config->snapshot_budget_mb() == 0) config->set_snapshot_budget_mb(4096);
  if (config->snapshot_memory_mb() == 0) config->set_snapshot_memory_mb(1024);
  // A search over one machine keeps one for each of its runs.
  if (!config->has_prepared_vms()) {
    config->set_prepared_vms(std::clamp(config->max_running_vms(), 2U, 64U));
  }
}

int HostCpus() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

absl::Status FlagError(const std::string& flag, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", message, "; see ktstrd --help"));
}

absl::StatusOr<uint32_t> ParseNumber(const std::string& flag, const std::string& text,
                                     uint32_t max) {
  uint32_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value > max) {
    return FlagError(flag, absl::StrCat("'", text, "' is not a number from 0 to ", max));
  }
  return value;
}

absl::StatusOr<std::string> FindOwnProgram(const std::string& name) {
  const std::string dir = base::ProgramDirectory();
  const std::string beside = base::JoinPath(dir, name);
  const std::string libexec = base::JoinPath(dir, absl::StrCat("../libexec/ktstr/", name));
  for (const std::string& path : {beside, libexec}) {
    if (access(path.c_str(), R_OK) == 0) return path;
  }
  return absl::FailedPreconditionError(absl::StrCat(name, " is neither at ", beside, " nor at ",
                                                    libexec, ": install ktstr completely"));
}

}  // namespace

absl::StatusOr<v1::DaemonConfig> ParseConfig(const std::string& text, const std::string& file) {
  constexpr scenario::TextKind kKind = {"configuration", kMaxConfigBytes, ""};
  auto parsed = scenario::ParseText<v1::DaemonConfig>(text, file, kKind, CheckConfig);
  if (!parsed.problems.empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(
        parsed.problems, "\n", [](std::string* out, const scenario::Problem& problem) {
          absl::StrAppend(out, problem.ToString());
        }));
  }
  FillDefaults(&parsed.value, HostCpus());
  return std::move(parsed.value);
}

v1::DaemonConfig DefaultConfig(int host_cpus) {
  v1::DaemonConfig config;
  FillDefaults(&config, host_cpus);
  return config;
}

absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& args) {
  CommandLine line;
  for (size_t i = 0; i < args.size(); ++i) {
    std::string flag = args[i];
    if (flag == "--private") {
      line.private_daemon = true;
      continue;
    }
    if (flag == "--help" || flag == "-h") {
      line.help = true;
      continue;
    }
    if (flag == "--version") {
      line.version = true;
      continue;
    }
    std::string value;
    const bool takes_value = absl::StartsWith(flag, "--");
    if (const size_t equals = flag.find('='); takes_value && equals != std::string::npos) {
      value = flag.substr(equals + 1);
      flag.resize(equals);
    } else if (takes_value && i + 1 < args.size()) {
      value = args[i + 1];
      ++i;
    }
    if (flag != "--socket" && flag != "--cache-dir" && flag != "--config" && flag != "--ready-fd" &&
        flag != "--idle-exit-seconds") {
      return FlagError(flag, "no such option");
    }
    if (value.empty() || absl::StartsWith(value, "--")) return FlagError(flag, "needs a value");
    if (flag == "--socket") line.socket = value;
    if (flag == "--cache-dir") line.cache_dir = value;
    if (flag == "--config") line.config_file = value;
    if (flag == "--ready-fd") {
      KTSTR_ASSIGN_OR_RETURN(line.ready_fd, ParseNumber(flag, value, 65535));
    }
    if (flag == "--idle-exit-seconds") {
      KTSTR_ASSIGN_OR_RETURN(line.idle_exit_seconds, ParseNumber(flag, value, 7 * 24 * 3600));
    }
  }
  return line;
}

std::string_view UsageText() {
  return "usage: ktstrd --private [--socket PATH] [--cache-dir DIR] [--config FILE]\n"
         "                        [--idle-exit-seconds N] [--ready-fd N]\n"
         "\n"
         "Runs the daemon of one user. ktstrctl starts it when it is needed.\n"
         "  --private              serve the calling user only\n"
         "  --socket PATH          default: $XDG_RUNTIME_DIR/ktstr/ktstrd.sock, else "
         "/tmp/ktstr-UID/ktstrd.sock;\n"
         "                         ktstrd-HASH8.sock there with another cache than "
         "$HOME/.cache/ktstr\n"
         "  --cache-dir DIR        default: KTSTR_CACHE_DIR, $XDG_CACHE_HOME/ktstr, "
         "$HOME/.cache/ktstr\n"
         "  --config FILE          DaemonConfig in protobuf text format\n"
         "  --idle-exit-seconds N  end after N seconds without clients and runs (default 600); 0: "
         "never\n"
         "  --ready-fd N           write \"ready\", \"running\" (another ktstrd serves the "
         "socket),\n"
         "                         \"elsewhere: SOCKET\" (another one uses the cache directory)\n"
         "                         or \"error: TEXT\" to descriptor N\n"
         "Example: ktstrd --private --socket /tmp/k.sock --cache-dir /tmp/kc --idle-exit-seconds "
         "60\n";
}

absl::StatusOr<ServerOptions> MakeServerOptions(const CommandLine& line) {
  ServerOptions options;
  options.config = DefaultConfig(HostCpus());
  if (!line.config_file.empty()) {
    KTSTR_ASSIGN_OR_RETURN(const std::string text,
                           base::ReadFile(line.config_file, kMaxConfigBytes + 1));
    KTSTR_ASSIGN_OR_RETURN(options.config, ParseConfig(text, line.config_file));
  }
  if (line.idle_exit_seconds.has_value()) {
    options.config.set_idle_exit_seconds(*line.idle_exit_seconds);
  }
  options.socket = line.socket.empty() ? base::PrivateSocketPath(&getenv, geteuid()) : line.socket;
  options.cache_dir = line.cache_dir;
  if (options.cache_dir.empty()) {
    KTSTR_ASSIGN_OR_RETURN(options.cache_dir, base::CacheDir());
  }
  KTSTR_ASSIGN_OR_RETURN(options.vm_program, FindOwnProgram("ktstr-vm"));
  KTSTR_ASSIGN_OR_RETURN(options.agent_program, FindOwnProgram("ktstr-agent"));
  return options;
}

}  // namespace ktstr::daemon
