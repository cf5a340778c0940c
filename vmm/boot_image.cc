// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot_image.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "vmm/bundle.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kMaxBootImageBytes = uint64_t{256} << 20;

}  // namespace

absl::StatusOr<base::UniqueFd> MakeBootImage(const std::string& agent_path,
                                             const std::string& kernel_release,
                                             const std::string& config_text) {
  absl::StatusOr<base::UniqueFd> agent = base::Open(agent_path, O_RDONLY);
  if (!agent.ok()) return base::Annotate(agent.status(), "boot image: guest agent");
  struct stat info;
  if (fstat(agent->get(), &info) != 0) return base::ErrnoStatus(errno, agent_path);
  BundleBuilder image;
  image.AddFile("init", static_cast<uint64_t>(info.st_size), 0755,
                [&agent] { return *std::move(agent); });
  for (const char* directory : {"boot", "dev", "etc", "lib64", "proc", "root", "run", "sys"}) {
    image.AddDirectory(directory, 0755);
  }
  image.AddDirectory("tmp", 01777);
  if (!config_text.empty()) {
    image.AddData(absl::StrCat("boot/config-", kernel_release), config_text, 0644);
  }
  return image.Finish(kMaxBootImageBytes);
}

}  // namespace ktstr::vmm
