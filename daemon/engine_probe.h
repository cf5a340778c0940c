// SPDX-License-Identifier: Apache-2.0
//
// Engine identities, cached per program: to ask an engine takes as long as to restore a guest. Any
// thread.

#ifndef KTSTR_DAEMON_ENGINE_PROBE_H_
#define KTSTR_DAEMON_ENGINE_PROBE_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "vmm/engine.h"

namespace ktstr::daemon {

class EngineProbe {
 public:
  // Returns the errors of Engine::Identity() and does not cache them.
  absl::StatusOr<vmm::EngineIdentity> Get(const vmm::Engine& engine, const vmm::EngineFile& file)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  base::Mutex mutex_;
  std::map<std::string, vmm::EngineIdentity> known_ ABSL_GUARDED_BY(mutex_);  // By file identity.
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_ENGINE_PROBE_H_
