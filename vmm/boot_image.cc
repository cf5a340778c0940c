// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot_image.h"

#include <fcntl.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "vmm/bundle.h"

namespace ktstr::vmm {

absl::StatusOr<base::UniqueFd> MakeBootImage(const std::string& agent_path,
                                             const std::string& kernel_release,
                                             const std::string& config_text) {
  absl::StatusOr<base::UniqueFd> agent = base::Open(agent_path, O_RDONLY);
  if (!agent.ok()) return base::Annotate(agent.status(), "boot image: guest agent");
  BundleBuilder image;
  KTSTR_RETURN_IF_ERROR(image.AddFd("init", agent->get(), 0755));
  for (const char* directory : {"boot", "dev", "etc", "lib64", "proc", "root", "run", "sys"}) {
    image.AddDirectory(directory, 0755);
  }
  image.AddDirectory("tmp", 01777);
  if (!config_text.empty()) {
    image.AddData(absl::StrCat("boot/config-", kernel_release), config_text, 0644);
  }
  return image.Finish();
}

}  // namespace ktstr::vmm
