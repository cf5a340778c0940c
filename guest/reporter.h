// SPDX-License-Identifier: Apache-2.0
//
// Takes what the agent's parts observe. Channel is the real one; tests collect in a vector. One
// thread: the agent's.

#ifndef KTSTR_GUEST_REPORTER_H_
#define KTSTR_GUEST_REPORTER_H_

#include <string_view>

#include "ktstr/v1/observation.pb.h"

namespace ktstr::guest {

class Reporter {
 public:
  virtual ~Reporter() = default;
  // Takes `observation`; sets its guest time to now unless it has one. Never fails to its caller:
  // a reporter that cannot deliver prints that on the console, once.
  virtual void Report(v1::Observation observation) = 0;
  // Marks how far the agent came, on the channel and on the console.
  virtual void ReportStage(v1::Stage stage) = 0;
  // The first step begins, which has been reported: the host may look at the guest from here on.
  virtual void ReportFirstStep() = 0;
  // A GuestError observation, and a console line. `bad_input`: the scenario is at fault, not the
  // harness.
  virtual void ReportError(std::string_view message, bool bad_input) = 0;
  void ReportError(std::string_view message) { ReportError(message, false); }
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_REPORTER_H_
