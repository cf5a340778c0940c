// SPDX-License-Identifier: Apache-2.0
//
// Which engine runs a spec on this host, and what each engine runs from. Any thread.

#ifndef KTSTR_DAEMON_ENGINE_CHOICE_H_
#define KTSTR_DAEMON_ENGINE_CHOICE_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "ktstr/v1/config.pb.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::daemon {

inline constexpr char kKvmDevice[] = "/dev/kvm";

// The engine that a spec gets.
struct EngineChoice {
  v1::Engine engine = v1::TCG;
  std::string why;  // For people.
};

// FailedPrecondition, with the remedy, when this host or this version does not have the engine.
absl::StatusOr<EngineChoice> ChooseEngine(v1::Engine asked, const std::string& kvm_device);

// By engine: the program or device that it runs from, as configured.
std::map<v1::Engine, std::string> EnginePaths(const v1::DaemonConfig& config);

// Checks that the engine of a spec can run, before the spec is queued: ChooseEngine(), and the
// engine's program or device exists.
absl::Status CheckEngine(v1::Engine asked, const v1::DaemonConfig& config);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_ENGINE_CHOICE_H_
