// SPDX-License-Identifier: Apache-2.0

#include "scenario/record.h"

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "scenario/json.h"

namespace ktstr::scenario {
namespace {

using ::testing::HasSubstr;

template <typename T>
T Text(const std::string& text) {
  T message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

v1::Scenario MakeScenario() {
  return Text<v1::Scenario>(
      "name: 'x' topology { preset: 'tiny-2llc' } scheduler { name: 'b/scx_mine' } "
      "step { cgroup { name: 'a' work { bursty {} workers: 2 } } }");
}

v1::RunRecord Fill(const std::vector<std::string>& observations,
                   const v1::Scenario& scenario = MakeScenario()) {
  std::vector<v1::Observation> list;
  for (const std::string& text : observations) list.push_back(Text<v1::Observation>(text));
  v1::RunRecord record;
  record.set_run_id("r-1");
  record.mutable_timings()->set_queue_ms(7);
  FillRecord(scenario, list, Text<v1::Judgement>("verdict: FAIL findings { kind: 'STUCK' }"),
             &record);
  return record;
}

TEST(Record, CountsRestarts) {
  EXPECT_FALSE(Fill({}).has_scheduler_restarts());
  const v1::RunRecord record = Fill(
      {"scheduler_restart { length_ns: 30000000 }", "scheduler_restart { length_ns: 50900000 }"});
  EXPECT_EQ(record.scheduler_restarts().count(), 2u);
  EXPECT_EQ(record.scheduler_restarts().longest_ms(), 50u);
  EXPECT_EQ(record.scheduler_restarts().total_ms(), 80u);
}

TEST(Record, JsonHasNoColorsOfTheLog) {
  v1::RunRecord record = Fill({"scheduler_output { data: '\\033[31mred\\033[0m\\n' }"});
  EXPECT_EQ(record.scheduler_log(), "\x1b[31mred\x1b[0m\n");
  EXPECT_THAT(*ToJson(record, false), HasSubstr("\"schedulerLog\":\"red\\n\""));
}

TEST(Record, HoldsWhatWasSeen) {
  const v1::RunRecord record =
      Fill({"guest_info { kernel_release: '7.3.4' kernel_cmdline: 'quiet' }",
            "scheduler_output { data: 'one\\n' }", "scheduler_output { data: 'tw\\377o' }",
            "worker_report { index: 1 cgroup: 'lie' work_units: 5 iterations: 6 cpu_time_ns: 7 "
            "wall_time_ns: 8 "
            "off_cpu_ns: 9 migrations: 10 cpus_used: [1, 3] max_gap_ns: 12999999 }",
            "stage { stage: COLLECTING }", "channel_stats { frames: 3 full_waits: 1 }",
            "vm_end { cause: DONE last_stage: DONE console_tail: 'c\\n' guest_digest: 'ab' "
            "engine_version: 'QEMU' "
            "host_boot_ns: 2500000000 host_attach_ns: 1000000 host_scenario_ns: 2000000 "
            "host_teardown_ns: "
            "3000000 }"});
  EXPECT_EQ(record.schema_version(), 1u);
  EXPECT_EQ(record.run_id(), "r-1");
  EXPECT_EQ(record.scenario(), "x");
  EXPECT_EQ(record.variant().topology(), "1n2l2c1t");
  EXPECT_EQ(record.variant().profile(), "default");
  EXPECT_EQ(record.variant().work_type(), "bursty");
  EXPECT_EQ(record.variant().seed(), 1u);
  EXPECT_EQ(record.scheduler().name(), "scx_mine");
  EXPECT_EQ(record.verdict(), v1::FAIL);
  EXPECT_EQ(record.findings_size(), 1);
  EXPECT_EQ(record.kernel_version(), "7.3.4");
  EXPECT_EQ(record.kernel_cmdline(), "quiet");
  EXPECT_EQ(record.scheduler_log(), "one\ntw\xEF\xBF\xBDo");
  EXPECT_EQ(record.workers(0).ShortDebugString(),
            Text<v1::WorkerSummary>("cgroup: 'a' work_type: 'bursty' work_units: 5 iterations: 6 "
                                    "cpu_time_ns: 7 wall_time_ns: 8 off_cpu_ns: 9 migrations: 10 "
                                    "cpus_used: [1, 3] max_gap_ms: 12")
                .ShortDebugString());
  EXPECT_EQ(record.stage_reached(), "DONE");
  EXPECT_EQ(record.channel().full_waits(), 1u);
  EXPECT_EQ(record.guest_digest(), "ab");
  EXPECT_EQ(record.engine_version(), "QEMU");
  EXPECT_THAT(record.console_tail(), HasSubstr("c"));
  EXPECT_EQ(record.timings().queue_ms(), 7u);
  EXPECT_EQ(record.timings().start_ms(), 2500u);
  EXPECT_EQ(record.timings().teardown_ms(), 3u);
  EXPECT_EQ(record.scenario_digest().size(), 64u);
}

TEST(Record, NamesInJsonAreTheContract) {
  const auto json = ToJson(Fill({"worker_report { index: 0 }", "vm_end { cause: DONE }"}), false);
  ASSERT_TRUE(json.ok()) << json.status();
  for (const char* name :
       {"schemaVersion", "runId",       "scenario",      "variant",     "topology",   "profile",
        "kernel",        "workType",    "seed",          "engine",      "scheduler",  "digest",
        "verdict",       "findings",    "kind",          "message",     "where",      "observed",
        "threshold",     "guestTimeMs", "kernelVersion", "guestDigest", "workers",    "workUnits",
        "iterations",    "cpuTimeNs",   "wallTimeNs",    "offCpuNs",    "migrations", "cpusUsed",
        "maxGapMs",      "timings",     "queueMs",       "kernelMs",    "startMs",    "attachMs",
        "scenarioMs",    "teardownMs",  "totalMs",       "reproduce"}) {
    EXPECT_THAT(*json, HasSubstr(std::string("\"") + name + "\":")) << name;
  }
  EXPECT_THAT(*json, HasSubstr("\"verdict\":\"FAIL\""));
}

TEST(Record, TimeOfTheAttachInTheGuest) {
  const auto attach = [](const std::string& started, const std::string& enabled) {
    return Fill({started + " stage { stage: SCHEDULER_STARTED }",
                 enabled + " stage { stage: SCHEDULER_ENABLED }"})
        .timings()
        .attach_guest_ms();
  };
  EXPECT_EQ(attach("guest_time_ns: 2000000000", "guest_time_ns: 5500000000"), 3500u);
  EXPECT_EQ(attach("guest_time_ns: 5", "guest_time_ns: 4"), 0u);
  EXPECT_EQ(Fill({"guest_time_ns: 5000000000 stage { stage: SCHEDULER_STARTED }"})
                .timings()
                .attach_guest_ms(),
            0u);
}

TEST(Record, StageSurvivesALostVmProcess) {
  EXPECT_EQ(Fill({"stage { stage: READY }", "vm_end { cause: INTERRUPTED }"}).stage_reached(),
            "READY");
  EXPECT_EQ(Fill({}).stage_reached(), "STAGE_UNSPECIFIED");
  // A guest can send any number.
  EXPECT_EQ(Fill({"stage { stage: READY }", "stage { stage: 99 }"}).stage_reached(), "READY");
}

TEST(Record, LogIsBoundedAndSaysWhatIsMissing) {
  v1::Observation output;
  // Each bad byte becomes three bytes.
  output.mutable_scheduler_output()->set_data(std::string(size_t{1} << 20, '\xff'));
  v1::Observation last;
  last.mutable_scheduler_output()->set_data("last words\n");
  v1::RunRecord record;
  FillRecord(MakeScenario(), {output, output, last}, v1::Judgement(), &record);
  EXPECT_LE(record.scheduler_log().size(), (size_t{1} << 20) + 256);
  EXPECT_THAT(record.scheduler_log(), HasSubstr(" bytes of output are left out here]\n"));
  EXPECT_THAT(record.scheduler_log(), ::testing::EndsWith("last words\n"));
  EXPECT_TRUE(ToJson(record, false).ok());
}

// The record counts the bytes that the agent left out once, at their place, and drops nothing more.
TEST(Record, LogHasTheGapOfTheAgent) {
  std::vector<v1::Observation> all;
  for (const char letter : {'h', 'm', 't', 't', 't'}) {
    all.emplace_back().mutable_scheduler_output()->set_data(
        std::string(letter == 'm' ? 0 : size_t{256} << 10, letter));
  }
  all[1].mutable_scheduler_output()->set_dropped_bytes(77);
  v1::RunRecord record;
  FillRecord(MakeScenario(), all, v1::Judgement(), &record);
  EXPECT_EQ(record.scheduler_log(), std::string(size_t{256} << 10, 'h') +
                                        "\n[77 bytes of output are left out here]\n" +
                                        std::string(size_t{768} << 10, 't'));
}

TEST(Record, HowTheSchedulerEnded) {
  v1::RunRecord record = Fill({"scheduler_exit { cause: STOPPED exit_code: 5 stop_ns: 12345678 }",
                               "scheduler_exit { cause: EJECTED }"});
  EXPECT_EQ(record.scheduler_end().ShortDebugString(),
            "cause: STOPPED exit_code: 5 stop_ms: 12 fault: \"exited with 5 when it was told to "
            "stop\"");
  EXPECT_FALSE(Fill({}).has_scheduler_end());
  record = Fill({"scheduler_exit { cause: EJECTED signal: 9 killed: true }"});
  EXPECT_TRUE(record.scheduler_end().killed());
  EXPECT_EQ(record.scheduler_end().fault(), "");
}

// None of it changes the verdict, so this is where a user finds it.
TEST(Record, WhatWentWrongAfterDone) {
  const auto after_done = [](const std::string& end) {
    return Fill({"stage { stage: DONE }", "vm_end { last_stage: DONE " + end + " }"}).after_done();
  };
  EXPECT_EQ(after_done("cause: DONE"), "");
  EXPECT_EQ(after_done("cause: DONE detail: 'no digest: why' vcpu { cpu: 0 rip: 16 halted: true "
                       "symbol: 'do_idle+0x4f' } vcpu { cpu: 1 rip: 16 halted: true symbol: "
                       "'do_idle+0x4f' }"),
            "no digest: why; vCPUs: cpu0-1 halted at do_idle+0x4f (0x10)");
  EXPECT_EQ(after_done("cause: GUEST_RESET crash_line: 'Kernel panic - not syncing: why'"),
            "the guest's kernel panicked after DONE: Kernel panic - not syncing: why");
  EXPECT_EQ(after_done("cause: PANIC"), "the guest's kernel panicked after DONE");
  EXPECT_EQ(after_done("cause: GUEST_RESET"), "the guest reset the machine after DONE");
  EXPECT_EQ(after_done("cause: GUEST_POWERED_OFF"),
            "the machine powered off after DONE, before its last doorbell");
  EXPECT_EQ(after_done("cause: ENGINE_FAILED detail: 'killed by signal 9'"),
            "the engine failed after DONE: killed by signal 9");
  EXPECT_EQ(after_done("cause: CANCELLED detail: 'Ctrl-C'"), "");  // A finding.
  EXPECT_EQ(Fill({"stage { stage: READY }", "vm_end { last_stage: DONE cause: GUEST_RESET }"})
                .after_done(),
            "");
}

TEST(Record, HostileReportsDoNotGrowIt) {
  std::vector<std::string> many(100, "worker_report { index: 0 }");
  many.push_back("worker_report { index: 4000000000 }");
  EXPECT_EQ(Fill(many).workers_size(), 2);
}

TEST(Record, DigestDependsOnContentOnly) {
  v1::Scenario other = MakeScenario();
  EXPECT_EQ(ScenarioDigest(other), ScenarioDigest(MakeScenario()));
  other.set_seed(2);
  EXPECT_NE(ScenarioDigest(other), ScenarioDigest(MakeScenario()));
}

// Variants of one scenario, seed and scheduler that `explore --strategy both`, `minimize` and
// `--set` make.
TEST(Record, FileNamesTellVariantsApart) {
  const auto name = [](const std::function<void(v1::Scenario*)>& change) {
    v1::Scenario scenario = MakeScenario();
    change(&scenario);
    v1::RunRecord record;
    FillRecord(scenario, {}, v1::Judgement(), &record);
    record.mutable_variant()->set_engine("tcg");
    return RecordFileName(record);
  };
  std::set<std::string> names = {
      name([](v1::Scenario*) {}),
      name([](v1::Scenario* s) { s->mutable_scheduler()->add_args("--stall"); }),
      name([](v1::Scenario* s) { s->mutable_perturb()->set_intensity(3); }),
      name([](v1::Scenario* s) { s->mutable_topology()->set_preset("tiny-1llc"); }),
      name([](v1::Scenario* s) { s->add_step(); }),
      name([](v1::Scenario* s) { s->set_seed(99); })};
  EXPECT_EQ(names.size(), 6u);
  EXPECT_EQ(name([](v1::Scenario*) {}), name([](v1::Scenario*) {}));
  EXPECT_THAT(*names.begin(), ::testing::EndsWith(".ktstr.json"));

  v1::RunRecord record;
  FillRecord(MakeScenario(), {}, v1::Judgement(), &record);
  const std::string one = RecordFileName(record);
  record.mutable_variant()->set_kernel("deb-linux-image-rt-x86_64");
  EXPECT_NE(RecordFileName(record), one);
  EXPECT_NE(RecordFileName(record, 2), RecordFileName(record));
}

TEST(Record, FileNamesStayInTheirDirectory) {
  v1::RunRecord record;
  record.set_scenario("../../etc/x");
  record.mutable_scheduler()->set_name(std::string(300, '/'));
  record.mutable_variant()->set_topology("a/b");
  const std::string name = RecordFileName(record);
  EXPECT_EQ(name.find('/'), std::string::npos);
  EXPECT_LT(name.size(), 255u);
  EXPECT_EQ(name.substr(0, 5), "_.._.");
  EXPECT_EQ(FileNamePart(".."), "_..");
  EXPECT_EQ(FileNamePart(""), "_");
}

}  // namespace
}  // namespace ktstr::scenario
