// SPDX-License-Identifier: Apache-2.0
#include "guest/cgroups.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/fake_cgroups.h"

namespace ktstr::guest {
namespace {

using ::testing::HasSubstr;

TEST(CgroupTreeTest, WritesWhatTheCgroupDeclares) {
  auto fake = FakeCgroups::Make({"left"});
  ASSERT_TRUE(fake.ok());
  auto tree = CgroupTree::Make(fake->mount());
  ASSERT_TRUE(tree.ok()) << tree.status();
  v1::GuestCgroup cgroup;
  cgroup.set_name("left");
  cgroup.set_cpus("0-1");
  cgroup.set_mems("0");
  cgroup.set_weight(250);
  ASSERT_TRUE(tree->Create(cgroup).ok());
  EXPECT_EQ(fake->Read("left/cpuset.cpus"), "0-1");
  EXPECT_EQ(fake->Read("left/cpuset.mems"), "0");
  EXPECT_EQ(fake->Read("left/cpu.weight"), "250");
  EXPECT_THAT(fake->Read("cgroup.subtree_control"), HasSubstr("+cpuset"));
  ASSERT_TRUE(tree->Place("left", 4321).ok());
  EXPECT_EQ(fake->Read("left/cgroup.procs"), "4321");
}

TEST(CgroupTreeTest, NestedPathsEnableControllersOnTheWayOnly) {
  auto fake = FakeCgroups::Make({"a", "a/b"});
  ASSERT_TRUE(fake.ok());
  auto tree = CgroupTree::Make(fake->mount());
  ASSERT_TRUE(tree.ok());
  v1::GuestCgroup cgroup;
  cgroup.set_name("a/b");
  ASSERT_TRUE(tree->Create(cgroup).ok());
  EXPECT_THAT(fake->Read("a/cgroup.subtree_control"), HasSubstr("+cpuset"));
  EXPECT_EQ(fake->Read("a/b/cgroup.subtree_control"), "");
  // Nothing declared, nothing written.
  EXPECT_EQ(fake->Read("a/b/cpuset.cpus"), "");
  EXPECT_EQ(fake->Read("a/b/cpu.weight"), "");
}

TEST(CgroupTreeTest, ErrorsCarryThePath) {
  auto fake = FakeCgroups::Make({});
  ASSERT_TRUE(fake.ok());
  auto tree = CgroupTree::Make(fake->mount());
  ASSERT_TRUE(tree.ok());
  const std::string placed(tree->Place("nonexistent", 1).message());
  EXPECT_THAT(placed, HasSubstr("/ktstr/nonexistent/cgroup.procs"));
  EXPECT_THAT(placed, HasSubstr("No such file or directory"));
  v1::GuestCgroup cgroup;
  cgroup.set_name("new");
  cgroup.set_cpus("0-3");
  EXPECT_THAT(std::string(tree->Create(cgroup).message()), HasSubstr("/ktstr/new/cpuset.cpus"));
  for (const char* name : {"", "/abs", "../up", "a//b", "a/..", "a/"}) {
    cgroup.set_name(name);
    EXPECT_EQ(tree->Create(cgroup).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(CgroupTreeTest, MissingControllersAreNamed) {
  auto tree = CgroupTree::Make("/nonexistent/cgroup");
  EXPECT_THAT(std::string(tree.status().message()), HasSubstr("cgroup controller cpu"));
}

}  // namespace
}  // namespace ktstr::guest
