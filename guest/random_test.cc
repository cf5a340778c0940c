// SPDX-License-Identifier: Apache-2.0
#include "guest/random.h"

#include <set>

#include "gtest/gtest.h"

namespace ktstr::guest {
namespace {

v1::GuestPlan PlanOf(uint64_t seed, const std::vector<std::pair<uint64_t, uint64_t>>& forks) {
  v1::GuestPlan plan;
  plan.set_seed(seed);
  for (const auto& [at, fork_seed] : forks) {
    plan.add_seed_fork()->set_at_ns(at);
    plan.mutable_seed_fork()->rbegin()->set_seed(fork_seed);
  }
  return plan;
}

TEST(RandomTest, ADrawIsAFunctionOfItsArguments) {
  const Random a(7);
  const Random b(7);
  EXPECT_EQ(a.Draw(stream::kBurst, 3, 5), b.Draw(stream::kBurst, 3, 5));
  EXPECT_EQ(a.Draw(stream::kBurst, 3, 5), a.Draw(stream::kBurst, 3, 6));
  EXPECT_NE(a.Draw(stream::kBurst, 3, 5), a.Draw(stream::kBurst, 4, 5));
  EXPECT_NE(a.Draw(stream::kBurst, 3, 5), a.Draw(stream::kTimers, 3, 5));
  EXPECT_NE(a.Draw(stream::kBurst, 3, 5), Random(8).Draw(stream::kBurst, 3, 5));
}

// Seeds in use are small and near to one another, and so are indices.
TEST(RandomTest, NearSeedsAndIndicesAreUnlike) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (uint64_t index = 0; index < 100; ++index)
      seen.insert(Random(seed).Draw(stream::kMove, index, 0));
  }
  EXPECT_EQ(seen.size(), 10'000u);
}

TEST(RandomTest, BoundsHoldAndAreReached) {
  const Random random(1);
  std::set<uint64_t> below;
  std::set<uint64_t> between;
  for (uint64_t i = 0; i < 1000; ++i) {
    below.insert(random.Below(3, stream::kIpis, i, 0));
    between.insert(random.Between(10, 12, stream::kIpis, i, 0));
  }
  EXPECT_EQ(below, (std::set<uint64_t>{0, 1, 2}));
  EXPECT_EQ(between, (std::set<uint64_t>{10, 11, 12}));
  EXPECT_EQ(random.Below(0, stream::kIpis, 0, 0), 0u);
  EXPECT_EQ(random.Between(5, 4, stream::kIpis, 0, 0), 5u);
}

TEST(RandomTest, AForkChangesWhatIsDrawnFromItsTimeOn) {
  const Random plain(1);
  const Random forked(PlanOf(1, {{100, 2}, {200, 3}, {~uint64_t{0}, 1}}));
  EXPECT_EQ(forked.Draw(stream::kBurst, 0, 99), plain.Draw(stream::kBurst, 0, 99));
  EXPECT_EQ(forked.Draw(stream::kBurst, 0, 100), Random(2).Draw(stream::kBurst, 0, 0));
  EXPECT_EQ(forked.Draw(stream::kBurst, 0, 199), Random(2).Draw(stream::kBurst, 0, 0));
  EXPECT_EQ(forked.Draw(stream::kBurst, 0, 1 << 30), Random(3).Draw(stream::kBurst, 0, 0));
  EXPECT_EQ(forked.ForksUntil(0), 0u);
  EXPECT_EQ(forked.ForksUntil(100), 1u);
  EXPECT_EQ(forked.ForksUntil(1 << 30), 2u);
}

}  // namespace
}  // namespace ktstr::guest
