// SPDX-License-Identifier: Apache-2.0
#include "client/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "client/catalog.h"
#include "client/exit_codes.h"
#include "client/reports.h"
#include "ktstr/v1/scenario.pb.h"
#include "scenario/checks.h"
#include "scenario/work_types.h"

namespace ktstr::client {
namespace {

using ::testing::_;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::RunRecord Failed() {
  v1::RunRecord r;
  r.set_run_id("r-0193");
  r.set_scenario("cpuset_resize");
  r.mutable_variant()->set_topology("1n2l2c1t");
  r.mutable_variant()->set_kernel("7.3.4-x86_64-0123456789abcdef");
  r.mutable_variant()->set_kernel_release("7.3.4+deb13-cloud-amd64");
  r.mutable_variant()->set_kernel_source("deb");
  r.mutable_variant()->set_engine("tcg");
  r.mutable_variant()->set_seed(1);
  r.mutable_scheduler()->set_name("scx_mine");
  r.set_verdict(v1::FAIL);
  r.set_kernel_version("7.3.4+deb13-cloud-amd64");
  v1::Timings* t = r.mutable_timings();
  t->set_total_ms(4900);
  t->set_start_ms(200);
  t->set_attach_ms(400);
  t->set_scenario_ms(4000);
  t->set_teardown_ms(100);
  t->set_start(v1::Timings::RESTORE);
  v1::Finding* f = r.add_findings();
  f->set_kind("STUCK");
  f->set_where("cgroup left");
  f->set_message("stuck 4500ms on cpu2 at +3200ms (threshold 3000ms)");
  f = r.add_findings();
  f->set_kind("STARVED");
  f->set_where("scheduler");
  f->set_message("scheduler process died");
  f->set_consequence(true);
  return r;
}

TEST(Render, TranscriptOfAFailure) {
  const v1::RunRecord r = Failed();
  EXPECT_EQ(HeaderLine(r),
            "kernel 7.3.4+deb13-cloud-amd64 (deb, cached)   topology 1n2l2c1t   engine tcg, warm, "
            "virtual time, seed 1\n");
  EXPECT_EQ(
      ResultText(r, /*color=*/false),
      "✗ cpuset_resize [scx_mine]  1n2l2c1t  FAIL  4.9 s  (queue 0.0, restore 0.2, attach 0.4, "
      "scenario 4.0, teardown 0.1)\n"
      "    STUCK     cgroup left: stuck 4500ms on cpu2 at +3200ms (threshold 3000ms)\n"
      "      STARVED   scheduler process died\n"
      "  record: ktstrctl results show r-0193\n");
}

TEST(Render, PassIsOneLine) {
  v1::RunRecord r = Failed();
  r.set_verdict(v1::PASS);
  r.clear_findings();
  r.clear_scheduler();
  r.mutable_timings()->set_start(v1::Timings::BOOT);
  r.set_scheduler_log("attached\n");
  EXPECT_EQ(ResultText(r, false),
            "✓ cpuset_resize [eevdf]  1n2l2c1t  PASS  4.9 s  (queue 0.0, boot 0.2, attach 0.4, "
            "scenario 4.0, teardown 0.1)\n");
  EXPECT_EQ(ResultText(r, true).substr(0, 12), "\x1b[32m✓\x1b[0m");
}

// The fault of a stop is printed once, also when the scenario does not judge the stop.
TEST(Render, FaultOfTheStopIsANote) {
  v1::RunRecord r = Failed();
  r.set_verdict(v1::PASS);
  r.clear_findings();
  r.mutable_scheduler_end()->set_fault("had to be killed");
  EXPECT_NE(ResultText(r, false).find("\n    note: the scheduler had to be killed\n"),
            std::string::npos);
  r.set_verdict(v1::FAIL);
  r.add_findings()->set_kind("SCHEDULER_STOP");
  EXPECT_EQ(ResultText(r, false).find("note:"), std::string::npos);
  r.mutable_findings()->Clear();
  r.mutable_scheduler_end()->clear_fault();
  EXPECT_EQ(ResultText(r, false).find("note:"), std::string::npos);
}

// Of a run that passed as well: its record has no digest, and this is why.
TEST(Render, WhatWentWrongAfterDoneIsANote) {
  v1::RunRecord r = Failed();
  r.set_verdict(v1::PASS);
  r.clear_findings();
  EXPECT_EQ(ResultText(r, false).find("note:"), std::string::npos);
  r.set_after_done("no digest:\x1b[31m\nthe guest hung");
  EXPECT_NE(ResultText(r, false).find("\n    note: no digest:"), std::string::npos);
  EXPECT_EQ(ResultText(r, false).find('\x1b'), std::string::npos);
  EXPECT_NE(RecordText(r, false).find("\n    note: no digest:"), std::string::npos);
}

TEST(Render, DeathShowsSectionsThatHaveSomething) {
  v1::RunRecord r = Failed();
  r.mutable_findings(0)->set_kind("SCHEDULER_DIED");
  EXPECT_EQ(ResultText(r, false).find("---"), std::string::npos);
  r.set_scheduler_log("start\ntick\ntick\ntick\ntick\n\x1b[31mend\n");
  r.set_stage_reached("STEPS_RUNNING");
  r.set_console_tail("panic\xff\x07\n");
  const std::string text = ResultText(r, false);
  EXPECT_NE(
      text.find(
          "  --- scheduler log ---\n    start\n    tick\n    [the line above came 4 times]\n"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("  --- diagnostics ---\n    stage reached: STEPS_RUNNING\n    console, last "
                      "lines:\n    panic"),
            std::string::npos)
      << text;
  // No byte of a guest controls the terminal.
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\x07'), std::string::npos);
}

TEST(Render, Restarts) {
  v1::RunRecord r = Failed();
  EXPECT_EQ(ResultText(r, false).find("restarted"), std::string::npos);
  r.mutable_scheduler_restarts()->set_count(2);
  r.mutable_scheduler_restarts()->set_longest_ms(51);
  EXPECT_THAT(ResultText(r, false),
              HasSubstr("\n    note: the scheduler restarted 2 times, for at most 51ms\n"));
}

TEST(Render, TheSchedulersColorsOnATerminal) {
  v1::RunRecord r = Failed();
  r.mutable_findings(0)->set_kind("SCHEDULER_DIED");
  r.set_scheduler_log("\x1b[32mINFO\x1b[0m up\n\x1b[2J\x1b[31mend\n");
  EXPECT_THAT(ResultText(r, true), HasSubstr("    \x1b[32mINFO\x1b[0m up\x1b[0m\n"
                                             "    \x1b[31mend\x1b[0m\n"));
  EXPECT_THAT(ResultText(r, false), HasSubstr("    INFO up\n    end\n"));
}

TEST(Render, NoHeaderWithoutKernel) { EXPECT_EQ(HeaderLine(v1::RunRecord()), ""); }

TEST(Render, Summary) {
  VerdictCounts counts;
  counts.Add(v1::FAIL);
  EXPECT_EQ(SummaryLine(counts, absl::Seconds(5.1)), "0 passed, 1 failed, 0 skipped in 5.1 s\n");
  counts.Add(v1::ERROR);
  counts.Add(v1::VERDICT_UNSPECIFIED);
  counts.Add(v1::INCONCLUSIVE);
  EXPECT_EQ(SummaryLine(counts, absl::Seconds(5)),
            "0 passed, 1 failed, 0 skipped, 2 errors, 1 inconclusive in 5.0 s\n");
}

// The last lines matter most.
TEST(Render, OfALongLogBothEndsAreShown) {
  v1::RunRecord record;
  record.set_verdict(v1::ERROR);
  for (int i = 1; i <= 1000; ++i) {
    absl::StrAppend(record.mutable_scheduler_log(), "line ", i, "\n");
  }
  const std::string text = ResultText(record, false);
  EXPECT_NE(text.find("  --- scheduler log ---\n    line 1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("    line 40\n    [800 lines are left out here]\n    line 841\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("    line 1000\n"), std::string::npos) << text;
}

TEST(Render, CollapseCycles) {
  EXPECT_EQ(CollapseCycles("a\nb\n"), "a\nb\n");
  EXPECT_EQ(CollapseCycles("a\na\n"), "a\na\n");
  EXPECT_EQ(CollapseCycles("a\na\na\nz\n"), "a\n[the line above came 3 times]\nz\n");
  EXPECT_EQ(CollapseCycles("a\nb\na\nb\na\nb\n"), "a\nb\n[the 2 lines above came 3 times]\n");
}

TEST(Render, KernelsAndCorruptFooter) {
  v1::ListKernelsResponse kernels;
  v1::KernelEntry* sound = kernels.add_kernels();
  sound->mutable_metadata()->set_key("k1");
  sound->mutable_metadata()->set_version("7.3.4");
  sound->mutable_metadata()->set_source("deb");
  sound->mutable_metadata()->set_arch("x86_64");
  sound->mutable_metadata()->set_created_unix_s(1000);
  sound->mutable_metadata()->set_sched_ext(true);
  sound->set_size_bytes(3 << 20);
  v1::KernelEntry* bare = kernels.add_kernels();
  *bare = *sound;
  bare->mutable_metadata()->set_key("k3");
  bare->mutable_metadata()->set_sched_ext(false);
  sound->set_has_config(true);
  EXPECT_EQ(CorruptFooter(kernels, "/c"), "");
  v1::KernelEntry* corrupt = kernels.add_kernels();
  corrupt->mutable_metadata()->set_key("k2");
  corrupt->set_error_kind("truncated");
  corrupt->set_error("/c/kernels/k2/metadata.json: cut short");
  EXPECT_EQ(KernelsTable(kernels, absl::FromUnixSeconds(1000 + 7200)),
            "KEY  VERSION  SOURCE  ARCH    AGE  SIZE\n"
            "k1   7.3.4    deb     x86_64  2h   3.0 MiB\n"
            "k3   7.3.4    deb     x86_64  2h   3.0 MiB  (no sched_ext) (no config)\n"
            "k2                                          (corrupt: truncated)\n");
  EXPECT_NE(CorruptFooter(kernels, "/c").find("k2: /c/kernels/k2/metadata.json: cut short"),
            std::string::npos);
}

TEST(ExitCodes, OfStatus) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("")), 65);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError("")), 69);
  EXPECT_EQ(ExitCodeOf(absl::FailedPreconditionError("")), 69);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("")), 69);
  EXPECT_EQ(ExitCodeOf(absl::InternalError("")), 70);
  EXPECT_EQ(ExitCodeOf(absl::DataLossError("")), 70);
  EXPECT_EQ(ExitCodeOf(absl::ResourceExhaustedError("")), 75);
  EXPECT_EQ(ExitCodeOf(absl::CancelledError("")), 130);
}

TEST(ExitCodes, OfErrorsOfTheInput) {
  VerdictCounts counts;
  v1::RunRecord record;
  record.set_verdict(v1::ERROR);
  record.add_findings()->set_kind("BAD_INPUT");
  counts.Add(record);
  EXPECT_EQ(ExitCodeOf(counts, {}), 65);
  record.mutable_findings(0)->set_kind("HARNESS");
  counts.Add(record);
  EXPECT_EQ(ExitCodeOf(counts, {}), 70);
}

TEST(ExitCodes, OfVerdicts) {
  VerdictCounts counts;
  FailurePolicy strict;
  strict.skip_is_failure = strict.inconclusive_is_failure = true;
  EXPECT_EQ(ExitCodeOf(counts, {}), 0);
  counts.Add(v1::PASS);
  counts.Add(v1::SKIP);
  EXPECT_EQ(ExitCodeOf(counts, {}), 0);
  EXPECT_EQ(ExitCodeOf(counts, strict), 1);
  counts = VerdictCounts();
  counts.Add(v1::INCONCLUSIVE);
  EXPECT_EQ(ExitCodeOf(counts, {}), 2);
  EXPECT_EQ(ExitCodeOf(counts, strict), 1);
  counts.Add(v1::ERROR);
  EXPECT_EQ(ExitCodeOf(counts, {}), 70);
  counts.Add(v1::FAIL);
  EXPECT_EQ(ExitCodeOf(counts, {}), 1);
}

TEST(Junit, EscapesAndCounts) {
  v1::RunRecord r = Failed();
  r.mutable_findings(0)->set_message("a <b> & \"c\"\nd\x01");
  r.set_scheduler_log("]]> \xef\xbf\xbf\x1b[0m");
  const std::string xml = JunitXml({r});
  EXPECT_NE(xml.find("tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"4.900\""),
            std::string::npos)
      << xml;
  EXPECT_NE(xml.find("<failure type=\"STUCK\" message=\"a &lt;b&gt; &amp; &quot;c&quot;&#10;d\">"),
            std::string::npos)
      << xml;
  EXPECT_EQ(xml.find('\x01'), std::string::npos);
  EXPECT_EQ(xml.find('\x1b'), std::string::npos);
  EXPECT_EQ(xml.find("]]>"), std::string::npos);
  EXPECT_EQ(xml.find("\xef\xbf\xbf"), std::string::npos);
}

TEST(Junit, ErrorSkipAndPass) {
  v1::RunRecord error = Failed(), skip = Failed(), pass = Failed();
  error.set_verdict(v1::ERROR);
  skip.set_verdict(v1::SKIP);
  pass.set_verdict(v1::PASS);
  const std::string xml = JunitXml({error, skip, pass});
  EXPECT_NE(xml.find("<error type=\"STUCK\""), std::string::npos);
  EXPECT_NE(xml.find("<skipped message=\"SKIP: stuck"), std::string::npos);
  EXPECT_NE(xml.find("tests=\"3\" failures=\"0\" errors=\"1\" skipped=\"1\""), std::string::npos);
}

TEST(Ktap, LinesAndEscapes) {
  EXPECT_EQ(KtapHead(2), "KTAP version 1\n1..2\n");
  v1::RunRecord r = Failed();
  r.mutable_findings(0)->set_message("odd # SKIP\nok 1");
  r.mutable_findings()->RemoveLast();
  EXPECT_EQ(KtapLine(1, r),
            "# STUCK cgroup left: odd _ SKIP ok 1\n"
            "not ok 1 cpuset_resize[scx_mine,1n2l2c1t,7.3.4-x86_64-0123456789abcdef,seed=1]\n");
  r.clear_findings();
  r.set_verdict(v1::SKIP);
  EXPECT_EQ(
      KtapLine(2, r),
      "ok 2 cpuset_resize[scx_mine,1n2l2c1t,7.3.4-x86_64-0123456789abcdef,seed=1] # SKIP SKIP\n");
}

// `--repeat`: one command overwrites none of its own records; a later command replaces them.
TEST(RecordDirectory, KeepsRepetitionsOfOneCommand) {
  auto dir = *base::TempDir::Make("records");
  RecordDirectory first(dir.path() + "/made");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(first.Write(Failed()).ok());
  EXPECT_EQ(base::ListDir(dir.path() + "/made")->size(), 3u);
  RecordDirectory second(dir.path() + "/made");
  ASSERT_TRUE(second.Write(Failed()).ok());
  EXPECT_EQ(base::ListDir(dir.path() + "/made")->size(), 3u);
}

// The catalog's rows are those of the tables in scenario/, each of which a test compares with the
// protos.
TEST(Catalog, ListsEveryRow) {
  EXPECT_EQ(WorkTypeRows().size(), 1 + scenario::WorkTypes().size());
  EXPECT_THAT(WorkTypeRows(), Contains(ElementsAre("bursty", "burst_ms 50, sleep_ms 100", "1", _)));
  EXPECT_EQ(CheckRows().size(), 1 + scenario::CheckTable().size());
  EXPECT_THAT(CheckRows(), Contains(ElementsAre("max_gap_ms", "3000", "2000", "STUCK", _)));
  EXPECT_THAT(CheckRows(), Contains(ElementsAre("isolation", "false", "false", "ISOLATION", _)));
  EXPECT_GT(ScenarioRows().size(), 1u);
  EXPECT_GT(PresetRows().size(), 20u);
}

TEST(ConsoleText, IsFitForATerminalAndNamesTheRun) {
  EXPECT_EQ(ConsoleText("", "[    0.1] one\r\n\x1b[2Jtwo\n"), "[    0.1] one\ntwo\n");
  EXPECT_EQ(ConsoleText("r-0007", "one\ntwo"), "r-0007| one\nr-0007| two\n");
  EXPECT_EQ(ConsoleText("r-0007", "\n"), "");
}

}  // namespace
}  // namespace ktstr::client
