// SPDX-License-Identifier: Apache-2.0
#include "daemon/engine_probe.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "vmm/qemu/machine.h"

namespace ktstr::daemon {

absl::StatusOr<EngineIdentity> EngineProbe::Get(const std::string& path, int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) return base::ErrnoStatus(errno, path);
  EngineIdentity identity;
  identity.program = absl::StrCat(path, " ", info.st_dev, ":", info.st_ino, " ", info.st_size, " ",
                                  info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec);
  base::MutexLock lock(&mutex_);
  if (const auto known = versions_.find(identity.program); known != versions_.end()) {
    identity.version_line = known->second;
    return identity;
  }
  vmm::qemu::BootFiles files;
  files.program = fd;
  files.program_path = path;
  KTSTR_ASSIGN_OR_RETURN(const vmm::qemu::Version version, vmm::qemu::QueryVersion(files));
  identity.version_line = version.line;
  versions_[identity.program] = identity.version_line;
  return identity;
}

}  // namespace ktstr::daemon
