// SPDX-License-Identifier: Apache-2.0
#include "daemon/caller.h"

#include <gtest/gtest.h>

namespace ktstr::daemon {
namespace {

TEST(CallerTest, RootIsAdminAndNobodyElse) {
  const Caller root = CallerOf(0);
  EXPECT_EQ(root.user, "root");
  EXPECT_TRUE(root.admin);
  EXPECT_TRUE(root.MayUse(4711));
  const Caller other = CallerOf(4'000'000'123);
  EXPECT_EQ(other.user, "uid-4000000123");  // No such account.
  EXPECT_FALSE(other.admin);
  EXPECT_TRUE(other.MayUse(4'000'000'123));
  EXPECT_FALSE(other.MayUse(0));
}

}  // namespace
}  // namespace ktstr::daemon
