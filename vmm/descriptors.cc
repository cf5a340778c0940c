// SPDX-License-Identifier: Apache-2.0
#include "vmm/descriptors.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/seqpacket.h"
#include "base/status_macros.h"
#include "scenario/topology.h"

namespace ktstr::vmm {
namespace {

// Of a restore: kernel, boot image, engine, device state, and RAM of each node.
static_assert(4 + scenario::kMaxNumaNodes <= base::kMaxPacketFds);

template <typename Message>
absl::Status Send(int socket, Message message, const std::vector<NamedFd>& named) {
  std::set<std::string> names;
  std::vector<int> fds;
  message.clear_descriptors();
  for (const NamedFd& one : named) {
    if (!names.insert(one.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("descriptor \"", one.name, "\" comes twice"));
    }
    message.add_descriptors(one.name);
    fds.push_back(one.fd);
  }
  return base::SendPacket(socket, message.SerializeAsString(), fds);
}

}  // namespace

std::string RamName(size_t node) { return absl::StrCat("ram", node); }

absl::Status SendMessage(int socket, v1::VmRequest message, const std::vector<NamedFd>& fds) {
  return Send(socket, std::move(message), fds);
}

absl::Status SendMessage(int socket, v1::VmEvent message, const std::vector<NamedFd>& fds) {
  return Send(socket, std::move(message), fds);
}

template <typename Names>
absl::StatusOr<Descriptors> Descriptors::Pair(const Names& names, std::vector<base::UniqueFd> fds) {
  if (static_cast<size_t>(names.size()) != fds.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the message came with ", fds.size(),
                                                   " descriptors, but names ", names.size()));
  }
  Descriptors descriptors;
  for (int i = 0; i < names.size(); ++i) {
    const auto [at, added] =
        descriptors.fds_.emplace(names[i], std::move(fds[static_cast<size_t>(i)]));
    if (!added) {
      return absl::InvalidArgumentError(absl::StrCat("descriptor \"", at->first, "\" comes twice"));
    }
  }
  return descriptors;
}

absl::StatusOr<Descriptors> Descriptors::Of(const v1::VmRequest& message,
                                            std::vector<base::UniqueFd> fds) {
  return Pair(message.descriptors(), std::move(fds));
}

absl::StatusOr<Descriptors> Descriptors::Of(const v1::VmEvent& message,
                                            std::vector<base::UniqueFd> fds) {
  return Pair(message.descriptors(), std::move(fds));
}

absl::StatusOr<base::UniqueFd> Descriptors::Take(const std::string& name) {
  const auto found = fds_.find(name);
  if (found == fds_.end()) {
    return absl::InvalidArgumentError(absl::StrCat("descriptor \"", name, "\" is missing"));
  }
  base::UniqueFd fd = std::move(found->second);
  fds_.erase(found);
  return fd;
}

absl::Status Descriptors::ExpectNoMore() const {
  if (fds_.empty()) return absl::OkStatus();
  const auto quote = [](std::string* out, const auto& entry) {
    absl::StrAppend(out, "\"", entry.first, "\"");
  };
  return absl::InvalidArgumentError(
      absl::StrCat("unknown descriptors: ", absl::StrJoin(fds_, ", ", quote)));
}

}  // namespace ktstr::vmm
