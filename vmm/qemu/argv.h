// SPDX-License-Identifier: Apache-2.0
//
// The QEMU command line of a launch: a pure function of the plan and of the program's version, so a
// unit test compares it and two runs have the same one. Files are inherited descriptors with fixed
// numbers: it holds no path of the host's file system.

#ifndef KTSTR_VMM_QEMU_ARGV_H_
#define KTSTR_VMM_QEMU_ARGV_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ktstr/v1/vm.pb.h"

namespace ktstr::vmm::qemu {

// Descriptors of the QEMU process.
inline constexpr int kQmpFd = 3;
inline constexpr int kKernelFd = 4;
inline constexpr int kBootImageFd = 5;
inline constexpr int kConsoleFd = 6;
inline constexpr int kProgramFd = 7;
inline constexpr int kTurnsFd = 8;         // The library (library/), which QEMU loads.
inline constexpr int kTurnsSaysFd = 9;     // The library writes a byte here when it works.
inline constexpr int kPageFd = 10;         // library/page.h
inline constexpr int kBellFd = 11;         // A pipe: a byte for each time the guest rings.
inline constexpr int kBellAnswerFd = 12;   // A pipe: the library waits for a byte after each.
inline constexpr int kStateFd = 13;        // kRestore: the snapshot's device state.
inline constexpr int kFirstMemoryFd = 14;  // One per NUMA node.

struct Version {
  int major = 0;
  int minor = 0;
  std::string text;  // "QEMU 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
};

// From the first line of `qemu-system-x86_64 -version`, or from a Version's text.
// FailedPrecondition when it is not QEMU's, or older than 7.2.
absl::StatusOr<Version> ParseVersion(std::string_view output);

enum class Start {
  kBoot,         // Maps the memory shared.
  kRestore,      // Maps the memory privately, and waits for the state.
  kRestoreCopy,  // As kRestore, but maps it shared: the memory is a copy of the snapshot's.
};

// Arguments after argv[0]. The guest does not run before QMP `cont`: a QMP command that arrives
// during the boot would be a host event in guest time, and runs would differ.
std::vector<std::string> MakeArguments(const v1::LaunchPlan& plan, const Version& version,
                                       Start start);

}  // namespace ktstr::vmm::qemu

#endif  // KTSTR_VMM_QEMU_ARGV_H_
