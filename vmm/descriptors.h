// SPDX-License-Identifier: Apache-2.0
//
// Descriptors that travel with a message of vm.proto, by name: the message lists their names, the
// socket carries them in the same order. A receiver takes each by its name, and then makes sure
// that nothing is left: missing, unknown and duplicate names are errors on both sides.
//
// One thread.

#ifndef KTSTR_VMM_DESCRIPTORS_H_
#define KTSTR_VMM_DESCRIPTORS_H_

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "ktstr/v1/vm.pb.h"

namespace ktstr::vmm {

// The names; each stands in vm.proto beside the message that brings it.
inline constexpr char kKernelName[] = "kernel";
inline constexpr char kBootImageName[] = "boot-image";
inline constexpr char kEngineName[] = "engine";
inline constexpr char kStateName[] = "state";
inline constexpr char kBundleName[] = "bundle";
std::string RamName(size_t node);  // "ram0"

// For sending; borrowed.
struct NamedFd {
  std::string name;
  int fd = -1;
  bool operator==(const NamedFd& other) const { return name == other.name && fd == other.fd; }
};

// Sends a message with its descriptors. InvalidArgument for a name that comes twice; else as
// base::SendPacket.
absl::Status SendMessage(int socket, v1::VmRequest message, const std::vector<NamedFd>& fds = {});
absl::Status SendMessage(int socket, v1::VmEvent message, const std::vector<NamedFd>& fds = {});

// The descriptors of a received message.
class Descriptors {
 public:
  Descriptors() = default;
  // InvalidArgument when there are not as many names as descriptors, or a name comes twice.
  static absl::StatusOr<Descriptors> Of(const v1::VmRequest& message,
                                        std::vector<base::UniqueFd> fds);
  static absl::StatusOr<Descriptors> Of(const v1::VmEvent& message,
                                        std::vector<base::UniqueFd> fds);

  bool Has(const std::string& name) const { return fds_.count(name) != 0; }
  // InvalidArgument when it is missing or already taken.
  absl::StatusOr<base::UniqueFd> Take(const std::string& name);
  // InvalidArgument names those that nobody took: they are unknown.
  absl::Status ExpectNoMore() const;

 private:
  template <typename Names>
  static absl::StatusOr<Descriptors> Pair(const Names& names, std::vector<base::UniqueFd> fds);

  std::map<std::string, base::UniqueFd> fds_;
};

}  // namespace ktstr::vmm

#endif  // KTSTR_VMM_DESCRIPTORS_H_
