// SPDX-License-Identifier: Apache-2.0
//
// A Reporter that keeps what it gets, for tests.

#ifndef KTSTR_GUEST_FAKE_REPORTER_H_
#define KTSTR_GUEST_FAKE_REPORTER_H_

#include <string>
#include <utility>
#include <vector>

#include "guest/reporter.h"

namespace ktstr::guest {

class FakeReporter : public Reporter {
 public:
  void Report(v1::Observation observation) override {
    observations.push_back(std::move(observation));
  }
  void ReportStage(v1::Stage stage) override {
    v1::Observation observation;
    observation.mutable_stage()->set_stage(stage);
    Report(std::move(observation));
  }
  void ReportFirstStep() override { reports_before_first_step.push_back(observations.size()); }
  using Reporter::ReportError;
  void ReportError(std::string_view message, bool bad_input) override {
    v1::Observation observation;
    observation.mutable_guest_error()->set_message(std::string(message));
    observation.mutable_guest_error()->set_bad_input(bad_input);
    Report(std::move(observation));
  }

  // Those that hold `fact`.
  std::vector<v1::Observation> Of(v1::Observation::FactCase fact) const {
    std::vector<v1::Observation> matching;
    for (const v1::Observation& observation : observations) {
      if (observation.fact_case() == fact) matching.push_back(observation);
    }
    return matching;
  }
  std::vector<v1::Stage> Stages() const {
    std::vector<v1::Stage> stages;
    for (const v1::Observation& observation : Of(v1::Observation::kStage))
      stages.push_back(observation.stage().stage());
    return stages;
  }
  std::string SchedulerOutput() const {
    std::string text;
    for (const v1::Observation& observation : Of(v1::Observation::kSchedulerOutput))
      text += observation.scheduler_output().data();
    return text;
  }

  std::vector<v1::Observation> observations;
  std::vector<size_t> reports_before_first_step;  // One for each ReportFirstStep().
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_FAKE_REPORTER_H_
