// SPDX-License-Identifier: Apache-2.0
#include "daemon/boot_images.h"

#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "vmm/boot_image.h"

namespace ktstr::daemon {
namespace {
constexpr size_t kMaxImageBytes = size_t{256} << 20;
constexpr size_t kDigestDigits = 16;
}  // namespace

absl::StatusOr<BootImage> BootImages::Get(const std::string& kernel_key,
                                          const std::string& kernel_release,
                                          const std::string& config_text) {
  base::MutexLock lock(&mutex_);
  base::Sha256 digest;
  {
    KTSTR_ASSIGN_OR_RETURN(base::UniqueFd agent, base::Open(agent_program_, O_RDONLY));
    KTSTR_ASSIGN_OR_RETURN(const std::string agent_digest,
                           base::Sha256HexOfFd(agent.get(), agent_program_));
    digest.Update(agent_digest + "\n" + kernel_release + "\n");
    digest.Update(config_text);
  }
  BootImage image;
  image.digest = digest.FinishHex();
  const std::string path =
      absl::StrCat(dir_, "/", kernel_key, "-", image.digest.substr(0, kDigestDigits), ".cpio");
  if (absl::StatusOr<base::UniqueFd> cached = base::Open(path, O_RDONLY | O_NOFOLLOW);
      cached.ok()) {
    image.file = *std::move(cached);
    return image;
  }
  KTSTR_ASSIGN_OR_RETURN(image.file,
                         vmm::MakeBootImage(agent_program_, kernel_release, config_text));
  if (absl::Status stored = Store(path, kernel_key, image.file.get()); !stored.ok()) {
    KTSTR_LOG(WARNING) << "boot image not kept: " << stored;
  }
  return image;
}

absl::Status BootImages::Store(const std::string& path, const std::string& kernel_key, int image) {
  KTSTR_RETURN_IF_ERROR(base::MakeDirs(dir_, 0700));
  if (lseek(image, 0, SEEK_SET) != 0) return base::ErrnoStatus(errno, "lseek boot image");
  KTSTR_ASSIGN_OR_RETURN(const std::string bytes, base::ReadFd(image, path, kMaxImageBytes));
  if (lseek(image, 0, SEEK_SET) != 0) return base::ErrnoStatus(errno, "lseek boot image");
  KTSTR_RETURN_IF_ERROR(base::WriteFileAtomic(path, bytes, 0600));
  KTSTR_ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDir(dir_));
  const std::string prefix = kernel_key + "-";
  for (const std::string& name : names) {
    const bool same_kernel = absl::StartsWith(name, prefix) && absl::EndsWith(name, ".cpio") &&
                             name.size() == prefix.size() + kDigestDigits + 5;
    if (same_kernel && name != base::Basename(path)) {
      KTSTR_RETURN_IF_ERROR(base::RemoveAll(base::JoinPath(dir_, name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace ktstr::daemon
