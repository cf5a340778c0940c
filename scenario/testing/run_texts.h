// SPDX-License-Identifier: Apache-2.0
//
// Runs as lists of observations in text format, for tests of the evaluation: a run that passes, and
// entries with which tests replace some of its entries.

#ifndef KTSTR_SCENARIO_TESTING_RUN_TEXTS_H_
#define KTSTR_SCENARIO_TESTING_RUN_TEXTS_H_

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "ktstr/v1/observation.pb.h"
#include "ktstr/v1/run.pb.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/evaluate.h"

namespace ktstr::scenario {

inline constexpr char kScheduled[] = R"(
  name: "x" scheduler { name: "build/scx_mine" }
  step { cgroup { name: "left" work { spin_wait {} workers: 2 } } }
  step {
    cgroup { name: "right" cpuset { exact { cpus: "0-1" } } work { bursty {} workers: 2 } }
  })";

inline v1::Scenario MakeScenario(const std::string& text = kScheduled) {
  v1::Scenario scenario;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &scenario)) << text;
  return scenario;
}

inline v1::Observation Make(const std::string& text) {
  v1::Observation observation;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &observation)) << text;
  return observation;
}

inline std::string Report(int index, const std::string& more = "") {
  return absl::StrCat("worker_report { index: ", index, " work_units: 1000 iterations: 10",
                      " wall_time_ns: 2000000000 cpu_time_ns: 1900000000 off_cpu_ns: 100000000",
                      " cpus_used: [0, 1] ", more, " }");
}

inline constexpr char kEnabled[] = "scheduler_state { state: 'enabled' ops: 'mine' }";
inline constexpr char kStopped[] = "scheduler_exit { cause: STOPPED was_enabled: true }";
inline constexpr char kDone[] = "vm_end { cause: DONE last_stage: DONE }";
inline constexpr char kBegin0[] = "step_mark { step: 0 edge: BEGIN }";
inline constexpr char kEnd0[] = "step_mark { step: 0 edge: END }";
inline constexpr char kBegin1[] = "step_mark { step: 1 edge: BEGIN }";
inline constexpr char kEnd1[] = "step_mark { step: 1 edge: END }";

// A run that passes.
inline std::vector<std::string> GoodRun() {
  return {"stage { stage: READY }",
          "guest_info { has_sched_ext: true }",
          kEnabled,
          kBegin0,
          kEnd0,
          kBegin1,
          kEnd1,
          Report(0),
          Report(1),
          Report(2),
          Report(3),
          kStopped,
          "stage { stage: DONE }",
          "channel_stats { frames: 9 }",
          kDone};
}

inline v1::Judgement Judge(const std::vector<std::string>& run,
                           const v1::Scenario& scenario = MakeScenario()) {
  std::vector<v1::Observation> observations;
  for (const std::string& text : run) observations.push_back(Make(text));
  return Evaluate(scenario, observations);
}

// "KIND where: message", with "> " before consequences.
inline std::vector<std::string> Lines(const v1::Judgement& judgement) {
  std::vector<std::string> lines;
  for (const v1::Finding& finding : judgement.findings()) {
    lines.push_back(absl::StrCat(finding.consequence() ? "> " : "", finding.kind(), " ",
                                 finding.where(), ": ", finding.message()));
  }
  return lines;
}

// `run` with `to` in place of every entry that equals `from`.
inline std::vector<std::string> With(std::vector<std::string> run, const std::string& from,
                                     const std::string& to) {
  for (std::string& entry : run) {
    if (entry == from) entry = to;
  }
  return run;
}

inline std::string Exit(const std::string& fields) { return "scheduler_exit { " + fields + " }"; }

// An end of the machine.
inline std::string End(const std::string& fields) { return "vm_end { " + fields + " }"; }

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_TESTING_RUN_TEXTS_H_
