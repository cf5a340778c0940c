// SPDX-License-Identifier: Apache-2.0
#include "daemon/engine_probe.h"

#include "base/status_macros.h"

namespace ktstr::daemon {

absl::StatusOr<vmm::EngineIdentity> EngineProbe::Get(const vmm::Engine& engine,
                                                     const vmm::EngineFile& file) {
  KTSTR_ASSIGN_OR_RETURN(const std::string key, vmm::FileIdentity(file));
  base::MutexLock lock(&mutex_);
  if (const auto known = known_.find(key); known != known_.end()) return known->second;
  KTSTR_ASSIGN_OR_RETURN(vmm::EngineIdentity identity, engine.Identity(file));
  known_[key] = identity;
  return identity;
}

}  // namespace ktstr::daemon
