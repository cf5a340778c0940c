// SPDX-License-Identifier: Apache-2.0
//
// `run --reuse` against a daemon that knows runs by their seed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "client/testing/command_test.h"

namespace ktstr::client {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class ReuseTest : public CommandTest {
 protected:
  ReuseTest() {
    service_.known_seeds = {7, 8};
    service_.judge = [](const v1::RunSpec& spec, v1::RunRecord* record) {
      record->mutable_timings()->set_total_ms(9900);
      record->mutable_variant()->set_kernel("image-7.3.4");
      if (spec.scenario().seed() == 8) FailWith("STUCK", "stuck 4ms", record);
    };
  }
};

TEST_F(ReuseTest, KnownRunIsPrintedAndNotMade) {
  EXPECT_EQ(Run({"run", "steady", "--seed", "7", "--reuse"}), kOk) << err_;
  EXPECT_THAT(service_.specs(), IsEmpty());
  EXPECT_THAT(out_, HasSubstr("✓ steady [eevdf]    PASS  known from r-90\n"));
  EXPECT_THAT(out_, HasSubstr("1 passed, 0 failed"));
  EXPECT_THAT(err_, Not(HasSubstr("submitted")));
  EXPECT_EQ(Run({"run", "steady", "--seed", "8", "--reuse"}), kFail);
  EXPECT_THAT(out_, HasSubstr("FAIL  known from r-91\n    STUCK"));
  EXPECT_THAT(out_, HasSubstr("ktstrctl results show r-91\n"));
  EXPECT_THAT(service_.specs(), IsEmpty());
}

TEST_F(ReuseTest, OnlyOnRequest) {
  EXPECT_EQ(Run({"run", "steady", "--seed", "7"}), kOk);
  EXPECT_EQ(Run({"run", "steady", "--seed", "7", "--fresh"}), kOk);
  EXPECT_THAT(service_.specs(), SizeIs(2));
  EXPECT_THAT(out_, Not(HasSubstr("known")));
  EXPECT_EQ(Run({"run", "steady", "--seed", "9", "--reuse"}), kOk);
  EXPECT_THAT(service_.specs(), SizeIs(3));
}

TEST_F(ReuseTest, OutputsAreWritten) {
  const std::string junit = dir_.path() + "/junit.xml";
  EXPECT_EQ(Run({"--json", "run", "steady", "--seed", "8", "--reuse", "--junit", junit, "-o",
                 dir_.path() + "/records"}),
            kFail);
  EXPECT_THAT(out_, HasSubstr("\"runId\":\"r-90\""));
  EXPECT_THAT(out_, HasSubstr("\"knownFrom\":\"r-90\""));
  // The command line of this run, which names the kernel that ran.
  EXPECT_THAT(out_,
              HasSubstr("\"reproduce\":\"ktstrctl run steady --kernel image-7.3.4 --seed 8\""));
  const std::string xml = *base::ReadFile(junit);
  EXPECT_THAT(xml, HasSubstr("failures=\"1\""));
  EXPECT_THAT(xml, HasSubstr("time=\"0.000\""));
  EXPECT_THAT(*base::ListDir(dir_.path() + "/records"), SizeIs(1));
  EXPECT_EQ(Run({"run", "steady", "--seed", "7", "--reuse", "--ktap"}), kOk);
  EXPECT_THAT(out_, HasSubstr("# known from r-91\nok 1 "));
}

TEST_F(ReuseTest, SeveralRunsMayBeTheSameOne) {
  EXPECT_EQ(Run({"run", "steady", "steady", "--seed", "7", "--reuse"}), kOk);
  EXPECT_THAT(out_, HasSubstr("2 passed"));
}

TEST_F(ReuseTest, DetachPrintsItsId) {
  EXPECT_EQ(Run({"run", "steady", "--seed", "7", "--reuse", "--detach"}), kOk);
  EXPECT_EQ(out_, "r-90\n");
}

// Between two calls of the client.
TEST_F(ReuseTest, RunThatIsGoneIsMade) {
  service_.forget_known = true;
  EXPECT_EQ(Run({"run", "steady", "--seed", "7", "--reuse"}), kOk) << err_;
  EXPECT_THAT(service_.specs(), SizeIs(1));
  EXPECT_THAT(out_, Not(HasSubstr("known")));
}

TEST_F(ReuseTest, WrongUse) {
  EXPECT_EQ(Run({"run", "steady", "--reuse", "--fresh"}), kUsage);
  EXPECT_EQ(Run({"run", "steady", "--reuse", "--repeat", "2"}), kUsage);
  EXPECT_THAT(err_, HasSubstr("Leave one of them out"));
  EXPECT_EQ(Run({"run", "steady", "--reuse", "--dmesg"}), kUsage);
  EXPECT_THAT(err_, HasSubstr("--reuse with --dmesg"));
  EXPECT_THAT(service_.specs(), IsEmpty());
}

}  // namespace
}  // namespace ktstr::client
