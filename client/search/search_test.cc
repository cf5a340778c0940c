// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/search/finding_key.h"
#include "client/search/seed_range.h"
#include "client/search/tally.h"
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

// Computed apart from this code.
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
    const Interval i = WilsonInterval(n / 5, n);
    EXPECT_LE(i.low, static_cast<double>(n / 5) / static_cast<double>(n));
    EXPECT_GE(i.high, static_cast<double>(n / 5) / static_cast<double>(n));
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
            "5 of 12 runs, 2.5 a second, 4 failures: STUCK (cgroup left) 3, STARVED (cgroup left) "
            "1");
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
            "2 distinct findings; 1 passed, 4 failed, 0 skipped in 2.0 s\n");
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

}  // namespace
}  // namespace ktstr::client
