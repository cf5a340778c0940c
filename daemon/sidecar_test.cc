// SPDX-License-Identifier: Apache-2.0
#include "daemon/sidecar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/flock.h"
#include "scenario/json.h"

namespace ktstr::daemon {
namespace {

v1::RunRecord Record() {
  v1::RunRecord record;
  record.set_scenario("steady");
  record.mutable_scheduler()->set_name("scx_mine");
  record.mutable_variant()->set_topology("1n1l2c1t");
  record.mutable_variant()->set_engine("tcg");
  record.mutable_variant()->set_seed(1);
  record.set_verdict(v1::PASS);
  return record;
}

v1::Scenario Scenario() {
  v1::Scenario scenario;
  scenario.mutable_scheduler()->set_name("scx_mine");
  return scenario;
}

TEST(SidecarTest, NamesDistinguishVariants) {
  v1::Scenario scenario = Scenario();
  v1::RunRecord record = Record();
  const std::string plain = SidecarName(scenario, record);
  EXPECT_EQ(plain, "steady-scx_mine-1n1l2c1t-tcg-s1.ktstr.json");
  scenario.mutable_scheduler()->add_args("--stall");
  EXPECT_NE(SidecarName(scenario, record), plain);
  record.mutable_variant()->set_seed(2);
  EXPECT_NE(SidecarName(Scenario(), record), plain);
  scenario.clear_scheduler();
  EXPECT_EQ(SidecarName(scenario, Record()), "steady-1n1l2c1t-tcg-s1.ktstr.json");
}

TEST(SidecarTest, NamesStayInTheirDirectory) {
  v1::RunRecord record = Record();
  record.mutable_scheduler()->set_name("../../../etc/x");
  EXPECT_EQ(SidecarName(Scenario(), record).find('/'), std::string::npos);
  EXPECT_EQ(RunKey("../6.14", ""), "_.._6.14-unknown");
  EXPECT_EQ(RunKey("7.3.4+deb13-cloud-amd64", "0123abc-dirty"),
            "7.3.4+deb13-cloud-amd64-0123abc-dirty");
}

TEST(SidecarTest, WritesJsonAndReplacesTheSameVariant) {
  auto dir = base::TempDir::Make("sidecar");
  auto path = WriteSidecar(dir->path(), "anna", "7.3.4-unknown", Scenario(), Record());
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, dir->path() + "/anna/7.3.4-unknown/steady-scx_mine-1n1l2c1t-tcg-s1.ktstr.json");
  v1::RunRecord again = Record();
  again.set_verdict(v1::FAIL);
  ASSERT_TRUE(WriteSidecar(dir->path(), "anna", "7.3.4-unknown", Scenario(), again).ok());
  v1::RunRecord read;
  ASSERT_TRUE(scenario::FromJson(*base::ReadFile(*path), &read).ok());
  EXPECT_EQ(read.verdict(), v1::FAIL);
  EXPECT_EQ(base::ListDir(dir->path() + "/anna/7.3.4-unknown")->size(), 1u);
}

TEST(SidecarTest, HeldLockIsNamedWithItsHolder) {
  auto dir = base::TempDir::Make("sidecar");
  ASSERT_TRUE(base::MakeDirs(dir->path() + "/.locks").ok());
  auto lock = base::FileLock::TryAcquire(dir->path() + "/.locks/k-unknown.lock",
                                         base::LockMode::kExclusive);
  ASSERT_TRUE(lock.ok());
  auto path =
      WriteSidecar(dir->path(), "anna", "k-unknown", Scenario(), Record(), absl::Milliseconds(50));
  EXPECT_EQ(path.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(path.status().message()),
              testing::AllOf(testing::HasSubstr("flock LOCK_EX on run-dir"),
                             testing::HasSubstr("k-unknown.lock"),
                             testing::HasSubstr(std::to_string(getpid()))));
}

}  // namespace
}  // namespace ktstr::daemon
