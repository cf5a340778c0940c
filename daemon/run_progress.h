// SPDX-License-Identifier: Apache-2.0
//
// Turns observations into the phases and lines that a waiting client sees. For people only: no
// verdict depends on them. One thread.

#ifndef KTSTR_DAEMON_RUN_PROGRESS_H_
#define KTSTR_DAEMON_RUN_PROGRESS_H_

#include "daemon/run_executor.h"
#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::daemon {

class RunProgress {
 public:
  // `reporter` and `scenario` outlive the object.
  RunProgress(const v1::Scenario& scenario, RunReporter* reporter)
      : scenario_(scenario), reporter_(reporter) {}
  void Observe(const v1::Observation& observation);
  void Say(const std::string& text);  // A line of the VM process, cut to 1 KiB.

 private:
  void Enter(v1::RunPhase::Phase phase, const std::string& detail);

  const v1::Scenario& scenario_;
  RunReporter* const reporter_;
  v1::RunPhase::Phase phase_ = v1::RunPhase::STARTING;
  uint32_t step_ = 0;
};

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_RUN_PROGRESS_H_
