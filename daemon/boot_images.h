// SPDX-License-Identifier: Apache-2.0
//
// Boot images, made once per (agent, kernel) and kept in CACHE/boot. Any thread.

#ifndef KTSTR_DAEMON_BOOT_IMAGES_H_
#define KTSTR_DAEMON_BOOT_IMAGES_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "base/mutex.h"

namespace ktstr::daemon {

struct BootImage {
  base::UniqueFd file;
  std::string digest;  // Of its inputs: equal digest, equal image.
};

class BootImages {
 public:
  // The first stored image creates `dir`.
  BootImages(std::string dir, std::string agent_program)
      : dir_(std::move(dir)), agent_program_(std::move(agent_program)) {}

  // The image, open for reading. Stores a new one and removes earlier images of the same kernel; a
  // cache that cannot be written is no error.
  absl::StatusOr<BootImage> Get(const std::string& kernel_key, const std::string& kernel_release,
                                const std::string& config_text) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Status Store(const std::string& path, const std::string& kernel_key, int image);

  const std::string dir_;
  const std::string agent_program_;
  base::Mutex mutex_;  // One image is made at a time.
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_BOOT_IMAGES_H_
