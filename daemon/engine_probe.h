// SPDX-License-Identifier: Apache-2.0
//
// What the emulator says of itself, asked once per program: its start takes as long as the restore
// of a guest. Any thread.

#ifndef KTSTR_DAEMON_ENGINE_PROBE_H_
#define KTSTR_DAEMON_ENGINE_PROBE_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace ktstr::daemon {

struct EngineIdentity {
  std::string version_line;  // First line of `-version`.
  std::string program;       // Path, inode, size and time: another program is another text.
};

class EngineProbe {
 public:
  // `fd`: the program, open. FailedPrecondition and so on when it is no emulator that can be used.
  absl::StatusOr<EngineIdentity> Get(const std::string& path, int fd) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  base::Mutex mutex_;
  std::map<std::string, std::string> versions_ ABSL_GUARDED_BY(mutex_);  // By program.
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_ENGINE_PROBE_H_
