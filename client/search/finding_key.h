// SPDX-License-Identifier: Apache-2.0
//
// Decides when two failures are the same. A run's failure is its first finding: later ones follow
// from it, or come from the same moment. Pure functions, any thread.

#ifndef KTSTR_CLIENT_SEARCH_FINDING_KEY_H_
#define KTSTR_CLIENT_SEARCH_FINDING_KEY_H_

#include <string>
#include <tuple>

#include "absl/strings/string_view.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

struct FindingKey {
  std::string kind;     // Token of FindingKinds().
  std::string where;    // "cgroup left"
  std::string message;  // "stuck Nms on cpuN at +Nms (threshold Nms)"

  bool operator==(const FindingKey& other) const { return Tied() == other.Tied(); }
  bool operator<(const FindingKey& other) const { return Tied() < other.Tied(); }
  // The same kind at the same place. For `minimize` and `explain`: the message changes with the
  // scenario.
  bool SamePlace(const FindingKey& other) const {
    return kind == other.kind && where == other.where;
  }
  std::string PlaceText() const;  // "STUCK (cgroup left)"
  std::string Text() const;       // PlaceText() and the message.

 private:
  std::tuple<const std::string&, const std::string&, const std::string&> Tied() const {
    return {kind, where, message};
  }
};

// The key of a run's first finding; all empty when it has none. For a scheduler that died, the
// message is how it ended (the kernel's exit kind, the process's status), not when: a race ends it
// at a different time with each seed.
FindingKey KeyOf(const v1::RunRecord& record);

// Replaces every number (with its decimals, or hexadecimal after 0x) by "N", and drops a
// scheduler's version and target triple, and the part from the first ';' on, which counts or
// explains.
std::string Normalized(absl::string_view message);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_FINDING_KEY_H_
