// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "client/search/finding_key.h"
#include "client/search/repeat_check.h"
#include "client/search/seed_range.h"
#include "client/search/tally.h"
#include "client/search/turning_point.h"
#include "client/search/wilson.h"

namespace ktstr::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(SeedRange, Values) {
  EXPECT_EQ(ParseSeedRange("3..7")->first, 3u);
  EXPECT_EQ(ParseSeedRange("3..7")->last, 7u);
  EXPECT_EQ(ParseSeedRange("3..7")->size(), 5u);
  EXPECT_EQ(ParseSeedRange("9")->size(), 1u);
  EXPECT_EQ(ParseSeedRange("1..1000000")->size(), 1000000u);
  EXPECT_EQ(ParseSeedRange("18446744073709551615")->first, UINT64_MAX);
  for (const char* bad :
       {"", "..", "1..", "..2", "0..2", "0", "2..1", "-1..2", "1...2", "1..2..3", "1-2", "a..b",
        "1 ..2", "+1..2", "1..1000001", "1..18446744073709551615", "18446744073709551616"}) {
    EXPECT_FALSE(ParseSeedRange(bad).ok()) << bad;
  }
  EXPECT_THAT(std::string(ParseSeedRange("9..2").status().message()), HasSubstr("Write 2..9"));
}

// Values computed with another program.
TEST(Wilson, KnownValues) {
  EXPECT_NEAR(WilsonInterval(0, 100).low, 0, 0);
  EXPECT_NEAR(WilsonInterval(0, 100).high, 0.036993, 1e-6);
  EXPECT_NEAR(WilsonInterval(3, 100).low, 0.010255, 1e-6);
  EXPECT_NEAR(WilsonInterval(3, 100).high, 0.084519, 1e-6);
  EXPECT_NEAR(WilsonInterval(8, 8).low, 0.675592, 1e-6);
  EXPECT_EQ(WilsonInterval(8, 8).high, 1);
  EXPECT_EQ(WilsonInterval(0, 0).low, 0);
  EXPECT_EQ(WilsonInterval(0, 0).high, 1);
}

TEST(Wilson, HoldsTheRateAndNarrows) {
  double width = 1.1;
  for (uint64_t n : {1, 2, 5, 10, 100, 1000, 100000}) {
    const uint64_t k = n / 5;
    const Interval i = WilsonInterval(k, n);
    EXPECT_LE(i.low, static_cast<double>(k) / static_cast<double>(n));
    EXPECT_GE(i.high, static_cast<double>(k) / static_cast<double>(n));
    EXPECT_LT(i.high - i.low, width);
    width = i.high - i.low;
  }
  EXPECT_EQ(RateText(3, 100), "3 of 100 (3.0 %, 95 % interval 1.0 to 8.5 %)");
  EXPECT_EQ(RateText(0, 0), "0 of 0");
}

v1::RunRecord Record(v1::Verdict verdict, uint64_t seed, const std::string& kind = "",
                     const std::string& message = "", const std::string& where = "cgroup left") {
  v1::RunRecord record;
  record.set_run_id("r-" + std::to_string(seed));
  record.set_verdict(verdict);
  record.mutable_variant()->set_seed(seed);
  record.set_reproduce("ktstrctl run x --seed " + std::to_string(seed));
  if (!kind.empty()) {
    v1::Finding* finding = record.add_findings();
    finding->set_kind(kind);
    finding->set_where(where);
    finding->set_message(message);
  }
  return record;
}

TEST(FindingKey, NumbersAreTheSame) {
  EXPECT_EQ(Normalized("stuck 4500ms on cpu2 at +3200ms (threshold 3000ms); 2 of 4 workers"),
            "stuck Nms on cpuN at +Nms (threshold Nms)");
  EXPECT_EQ(Normalized("spread=35.4% at 0xffff12ab 1.2.3 0x v1."), "spread=N% at N N.N Nx vN.");
  EXPECT_EQ(Normalized("\"bpfland_1.1.4_x86_64_unknown_linux_gnu\" disabled (bye)"),
            "\"bpfland\" disabled (bye)");
  EXPECT_EQ(Normalized("\"lavd_1.2.0-g1f2e3d_aarch64_unknown_linux_musl\""), "\"lavd\"");
  EXPECT_EQ(Normalized("\"mine_2\" \"a_1.2_b\" _1.2_linux_"), "\"mine_N\" \"a_N_b\" _N_linux_");
  EXPECT_EQ(Normalized(""), "");
  EXPECT_EQ(KeyOf(Record(v1::FAIL, 1, "STUCK", "stuck 4500ms on cpu2")),
            KeyOf(Record(v1::FAIL, 2, "STUCK", "stuck 9ms on cpu11")));
  EXPECT_FALSE(KeyOf(Record(v1::FAIL, 1, "STUCK", "a")) ==
               KeyOf(Record(v1::FAIL, 1, "STUCK", "a", "cgroup right")));
  EXPECT_FALSE(KeyOf(Record(v1::FAIL, 1, "STUCK", "a")) ==
               KeyOf(Record(v1::FAIL, 1, "STUCK", "b")));
  EXPECT_TRUE(
      KeyOf(Record(v1::FAIL, 1, "STUCK", "a")).SamePlace(KeyOf(Record(v1::FAIL, 1, "STUCK", "b"))));
}

TEST(FindingKey, DeathsOfASchedulerByHowItEnded) {
  const auto death = [](const std::string& message, const std::string& observed) {
    v1::RunRecord record = Record(v1::FAIL, 1, "SCHEDULER_DIED", message, "scheduler");
    record.mutable_findings(0)->set_observed(observed);
    return KeyOf(record);
  };
  const std::string stall = "BPF scheduler \"racy\" disabled (runnable task stall); racy: w[";
  EXPECT_EQ(death("ejected in step 1 of 2", stall + "12] failed to run for 3.1s"),
            death("ejected after completing step 1 of 2 (1.2s into test)",
                  stall + "99] failed to run for 4.0s"));
  EXPECT_FALSE(death("x", "BPF scheduler \"racy\" disabled (runtime error)") == death("x", stall));
  EXPECT_FALSE(death("x", "exit code 1") == death("x", "signal 9"));
}

TEST(Tally, DistinctFindingsByStrategy) {
  Tally tally({"uniform", "pct"}, 12);
  tally.Add(0, Record(v1::PASS, 1));
  tally.Add(0, Record(v1::FAIL, 9, "STUCK", "stuck 4ms"));
  tally.Add(0, Record(v1::FAIL, 2, "STUCK", "stuck 3ms"));
  tally.Add(1, Record(v1::FAIL, 2, "STUCK", "stuck 5ms"));
  tally.Add(1, Record(v1::FAIL, 3, "STARVED", "worker 3 did no work"));
  tally.Add(1, Record(v1::ERROR, 4, "CANCELLED", "enough"));
  EXPECT_EQ(tally.done(), 5u);
  EXPECT_EQ(tally.not_tried(), 7u);
  EXPECT_EQ(tally.failures(), 4u);
  EXPECT_EQ(tally.Code(), kFail);
  EXPECT_EQ(tally.Progress(absl::Seconds(2)),
            "5 of 12 runs, 2.5 a second, 4 failures, 2 distinct findings: STUCK (cgroup left) 3, "
            "STARVED (cgroup left) 1");
  const std::string report = tally.Report(absl::Seconds(2));
  EXPECT_EQ(report,
            "STUCK (cgroup left): stuck Nms\n"
            "  uniform: 2 of 3 (66.7 %, 95 % interval 20.8 to 93.9 %)\n"
            "    ktstrctl run x --seed 2\n"
            "    the same with --seed 9\n"
            "  pct: 1 of 2 (50.0 %, 95 % interval 9.5 to 90.5 %)\n"
            "    ktstrctl run x --seed 2\n"
            "STARVED (cgroup left): worker N did no work\n"
            "  uniform: 0 of 3 (0.0 %, 95 % interval 0.0 to 56.1 %)\n"
            "  pct: 1 of 2 (50.0 %, 95 % interval 9.5 to 90.5 %)\n"
            "    ktstrctl run x --seed 3\n"
            "7 runs of 12 not made: their seeds were not tried\n"
            "5 runs, 150.0 a minute; 2 distinct findings; 1 passed, 4 failed, 0 skipped in "
            "2.0 s\n");
}

TEST(Tally, KnownRunsCountAndCostNothing) {
  Tally tally({"uniform"}, 4);
  v1::RunRecord known = Record(v1::FAIL, 2, "STUCK", "stuck 3ms");
  known.set_known_from("r-0193");
  tally.Add(0, known);
  EXPECT_EQ(tally.Progress(absl::Seconds(2)),
            "1 of 4 seeds, 1 known, 0.0 a second, 1 failure, 1 distinct finding: STUCK (cgroup "
            "left) 1");
  EXPECT_THAT(tally.Report(absl::Seconds(2)),
              HasSubstr("\n1 seed, 1 known; 1 distinct finding; 0 passed, 1 failed"));
  EXPECT_THAT(*tally.RunJson(0, known), HasSubstr(R"("knownFrom":"r-0193")"));
  tally.Add(0, Record(v1::PASS, 1));
  EXPECT_THAT(tally.Report(absl::Seconds(2)),
              HasSubstr("\n2 seeds, 1 known, 30.0 a minute; 1 distinct finding; 1 passed"));
  const std::string summary = *tally.SummaryJson(absl::Seconds(2), "");
  EXPECT_THAT(summary, HasSubstr(R"("known":1)"));
  EXPECT_THAT(summary, HasSubstr(R"("seedsTried":2)"));
  EXPECT_THAT(summary, HasSubstr(R"("seedsPerMinute":30)"));
  EXPECT_THAT(summary, HasSubstr(R"("distinctFindings":1)"));
  EXPECT_THAT(summary, HasSubstr(R"("seconds":2)"));
}

TEST(Tally, CodesAndErrors) {
  Tally none({"uniform"}, 3);
  EXPECT_EQ(none.Code(), kInconclusive);
  none.Add(0, Record(v1::PASS, 1));
  EXPECT_EQ(none.Code(), kOk);
  EXPECT_THAT(none.Report(absl::Seconds(1)), HasSubstr("uniform: no failure, 0 of 1"));
  none.Add(0, Record(v1::INCONCLUSIVE, 2));
  EXPECT_EQ(none.Code(), kInconclusive);
  Tally errors({"uniform"}, 9);
  for (uint64_t seed = 1; seed <= 4; ++seed)
    errors.Add(0, Record(v1::ERROR, seed, "HARNESS", "no\x1b[31m qemu"));
  EXPECT_FALSE(errors.Hopeless());
  errors.Add(0, Record(v1::ERROR, 5, "HARNESS", "no qemu"));
  EXPECT_TRUE(errors.Hopeless());
  EXPECT_EQ(errors.Code(), kHarness);
  const std::string report = errors.Report(absl::Seconds(1));
  EXPECT_THAT(report, HasSubstr("5 runs ended as ERROR, the first with HARNESS: no"));
  EXPECT_THAT(report, HasSubstr("ktstrctl results show r-1"));
  EXPECT_THAT(report, Not(HasSubstr("\x1b")));
  errors.Add(0, Record(v1::PASS, 6));
  EXPECT_FALSE(errors.Hopeless());
}

TEST(Tally, Json) {
  Tally tally({"pct"}, 2);
  const v1::RunRecord record = Record(v1::FAIL, 18446744073709551615u, "STUCK", "stuck 4ms\xff");
  tally.Add(0, record);
  const std::string line = *tally.RunJson(0, record);
  EXPECT_THAT(line, HasSubstr(R"("seed":"18446744073709551615")"));
  EXPECT_THAT(line, HasSubstr(R"("verdict":"FAIL")"));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const std::string summary = *tally.SummaryJson(absl::Seconds(1), "--stop-after 1");
  EXPECT_THAT(summary, HasSubstr(R"("notTried":1)"));
  EXPECT_THAT(summary, HasSubstr(R"("stoppedBy":"--stop-after 1")"));
  EXPECT_THAT(summary, HasSubstr("ktstrctl run x --seed 18446744073709551615"));
}

v1::RunRecord Repeat(const std::string& run_id, const std::string& digest,
                     v1::Timings::Start start = v1::Timings::RESTORE) {
  v1::RunRecord record = Record(v1::PASS, 7);
  record.set_run_id(run_id);
  record.set_guest_digest(digest);
  record.mutable_variant()->set_engine("tcg");
  record.mutable_timings()->set_start(start);
  return record;
}

TEST(RepeatCheck, EqualAndDiffering) {
  const RepeatCheck equal = CheckRepeats({Repeat("r-1", "aa"), Repeat("r-2", "aa")});
  ASSERT_EQ(equal.groups.size(), 1u);
  EXPECT_EQ(equal.groups[0].compared, 2);
  EXPECT_FALSE(equal.groups[0].differs());
  const RepeatCheck differs =
      CheckRepeats({Repeat("r-1", "aa"), Repeat("r-2", "aa"), Repeat("r-3", "bb")});
  ASSERT_TRUE(differs.groups[0].differs());
  const v1::RunRecord record = NondeterminismRecord(differs.groups[0], "event 3: x");
  EXPECT_EQ(record.verdict(), v1::ERROR);
  EXPECT_EQ(record.run_id(), "");
  EXPECT_EQ(record.findings(0).kind(), "NONDETERMINISM");
  EXPECT_EQ(record.findings(0).message(),
            "r-1 and r-3 of seed 7 left different guest memory (aa, bb); first difference: event "
            "3: x");
}

TEST(RepeatCheck, OnlyWhatIsComparable) {
  v1::RunRecord waited = Repeat("r-3", "cc");
  waited.mutable_channel()->set_full_waits(2);
  v1::RunRecord kvm = Repeat("r-4", "dd");
  kvm.mutable_variant()->set_engine("kvm");
  v1::RunRecord other_seed = Repeat("r-5", "ee");
  other_seed.mutable_variant()->set_seed(8);
  v1::RunRecord error = Repeat("r-6", "ff");
  error.set_verdict(v1::ERROR);
  const RepeatCheck check =
      CheckRepeats({Repeat("r-1", "aa", v1::Timings::BOOT), Repeat("r-2", "bb"), waited, kvm,
                    other_seed, error, Repeat("r-7", "")});
  ASSERT_EQ(check.groups.size(), 3u) << "boot and restore are apart, and so are seeds";
  for (const RepeatGroup& group : check.groups) {
    EXPECT_EQ(group.compared, 1);
    EXPECT_FALSE(group.differs());
  }
  ASSERT_EQ(check.left_out.size(), 2u);
  EXPECT_THAT(check.left_out[0], HasSubstr("r-3 is not comparable: its machine stopped 2 times"));
  EXPECT_THAT(check.left_out[1], HasSubstr("r-7 is not comparable: it has no digest"));
}

TEST(RepeatCheck, FirstDifferenceIsOfTheGuest) {
  v1::RunObservations a;
  a.add_observations()->mutable_stage()->set_stage(v1::READY);
  a.add_observations()->mutable_step_mark()->set_step(1);
  a.add_observations()->mutable_vm_end()->set_host_boot_ns(5);
  a.mutable_observations(2)->mutable_vm_end()->set_guest_digest("aa");
  v1::RunObservations b = a;
  b.mutable_observations(2)->mutable_vm_end()->set_host_boot_ns(6);
  b.mutable_observations(2)->mutable_vm_end()->set_guest_digest("bb");
  EXPECT_EQ(FirstDifference(a, b), "");
  b.mutable_observations(1)->set_guest_time_ns(2'000'001);
  EXPECT_EQ(FirstDifference(a, b),
            "event 1: step_mark { step: 1 } at 0.000000 ms, against step_mark { step: 1 } at "
            "2.000001 ms");
  b = a;
  b.mutable_observations()->DeleteSubrange(1, 2);
  EXPECT_EQ(FirstDifference(a, b),
            "event 1: only the first has step_mark { step: 1 } at 0.000000 ms");
  EXPECT_THAT(FirstDifference(b, a), HasSubstr("only the second has"));
}

// Asks to the end; `failures` gives the number at each moment.
TurningPoint Ask(TurningPoint point, const std::function<uint32_t(uint32_t)>& failures,
                 int* asked) {
  *asked = 0;
  while (const auto at = point.Next()) {
    if (++*asked > 100) break;
    point.Report(*at, failures(*at));
  }
  return point;
}

TEST(TurningPoint, Bisects) {
  int asked;
  const TurningPoint point = Ask(
      TurningPoint(0, 2000, 10, 8), [](uint32_t at) { return at >= 1234 ? 8 : at / 400; }, &asked);
  EXPECT_LE(asked, 12);
  ASSERT_TRUE(point.certain_from());
  EXPECT_GE(*point.certain_from(), 1234u);
  EXPECT_LE(*point.certain_from(), 1244u);
  EXPECT_THAT(point.Conclusion(), HasSubstr("on the failure is certain (all 8 forks fail, so at "
                                            "least 68 % do with 95 % confidence); forked at +12"));
  EXPECT_THAT(point.TableText(), HasSubstr("start      0 of 8\n"));
}

TEST(TurningPoint, CertainFromTheStartOrNever) {
  int asked;
  const TurningPoint always = Ask(
      TurningPoint(0, 2000, 10, 3), [](uint32_t) { return 3; }, &asked);
  EXPECT_EQ(asked, 1);
  EXPECT_THAT(always.Conclusion(), HasSubstr("certain from the start: other seeds fail, too"));
  const TurningPoint never = Ask(
      TurningPoint(0, 2000, 10, 3), [](uint32_t) { return 2; }, &asked);
  EXPECT_EQ(asked, 2);
  EXPECT_FALSE(never.certain_from());
  EXPECT_THAT(never.Conclusion(), HasSubstr("forked +2000 ms into the steps"));
  EXPECT_THAT(never.Conclusion(), HasSubstr("1 of 3 forks avoid it"));
}

// An early moment at which all forks fail by luck must not hide a later open one.
TEST(TurningPoint, EndsWhateverTheAnswers) {
  for (uint32_t salt = 0; salt < 200; ++salt) {
    int asked;
    const TurningPoint point = Ask(
        TurningPoint(salt % 3, 1 + salt * 7, 1 + salt % 20, 4),
        [salt](uint32_t at) { return (at * 2654435761u + salt * 40503u) >> 5 & 3 ? 4u : 1u; },
        &asked);
    EXPECT_LE(asked, 14);
    if (point.certain_from()) {
      for (auto it = point.points().find(*point.certain_from()); it != point.points().end(); ++it)
        EXPECT_EQ(it->second, 4u);
    }
    EXPECT_NE(point.Conclusion(), "");
  }
}

}  // namespace
}  // namespace ktstr::client
