// SPDX-License-Identifier: Apache-2.0
#include "vmm/testing/vm_driver.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/seqpacket.h"
#include "base/status_macros.h"

namespace ktstr::vmm::testing {

absl::StatusOr<VmDriver> VmDriver::Start(const std::string& wrapper) {
  KTSTR_ASSIGN_OR_RETURN(auto pair, base::MakeSeqpacketPair());
  base::SpawnOptions options;
  if (!wrapper.empty()) options.argv.push_back(wrapper);
  options.argv.push_back(absl::StrCat(KTSTR_BIN_DIR, "/ktstr-vm"));
  options.fds = {{2, 2}, {3, pair.second.get()}};
  KTSTR_ASSIGN_OR_RETURN(base::Child child, base::Spawn(options));
  return VmDriver(std::move(child), std::move(pair.first));
}

absl::Status VmDriver::Send(const v1::VmRequest& request, const std::vector<NamedFd>& fds) {
  return SendMessage(control_.get(), request, fds);
}

absl::Status VmDriver::SendBytes(const std::string& bytes, const std::vector<int>& fds) {
  return base::SendPacket(control_.get(), bytes, fds);
}

absl::StatusOr<v1::VmEvent> VmDriver::Next(absl::Duration timeout) {
  KTSTR_ASSIGN_OR_RETURN(base::Packet packet, base::ReceivePacket(control_.get(), timeout));
  v1::VmEvent event;
  if (!event.ParseFromString(packet.data)) return absl::DataLossError("no VmEvent");
  if (event.has_progress()) progress_.push_back(event.progress().text());
  if (event.has_no_snapshot()) {
    return absl::AbortedError(absl::StrCat("no snapshot: ", event.no_snapshot().reason()));
  }
  if (event.has_snapshot()) {
    KTSTR_ASSIGN_OR_RETURN(Descriptors fds, Descriptors::Of(event, std::move(packet.fds)));
    KTSTR_ASSIGN_OR_RETURN(snapshot_, TakeSnapshotFds(&fds));
    KTSTR_RETURN_IF_ERROR(fds.ExpectNoMore());
  }
  if (event.has_observation()) observations_.push_back(event.observation());
  return event;
}

absl::StatusOr<v1::VmEnd> VmDriver::AwaitEnd(absl::Duration timeout) {
  while (true) {
    KTSTR_ASSIGN_OR_RETURN(v1::VmEvent event, Next(timeout));
    if (event.observation().has_vm_end()) return event.observation().vm_end();
  }
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::vector<pid_t> children;
  absl::StatusOr<std::string> text =
      base::ReadFile(absl::StrCat("/proc/", pid, "/task/", pid, "/children"));
  if (!text.ok()) return children;
  for (absl::string_view word : absl::StrSplit(*text, ' ', absl::SkipWhitespace())) {
    int child = 0;
    if (absl::SimpleAtoi(word, &child)) children.push_back(child);
  }
  return children;
}

bool IsGone(pid_t pid, absl::Duration timeout) {
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return true;
  pollfd wait = {pidfd.get(), POLLIN, 0};
  return poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) == 1;
}

}  // namespace ktstr::vmm::testing
