// SPDX-License-Identifier: Apache-2.0
#include "daemon/record_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "scenario/json.h"
#include "scenario/record.h"

namespace ktstr::daemon {
namespace {

v1::RunRecord Record(v1::Verdict verdict = v1::PASS) {
  v1::RunRecord record;
  record.set_run_id("r-0007");
  record.set_scenario("steady");
  record.mutable_scheduler()->set_name("scx_mine");
  record.mutable_variant()->set_topology("1n1l2c1t");
  record.mutable_variant()->set_engine("tcg");
  record.mutable_variant()->set_seed(1);
  record.set_verdict(verdict);
  return record;
}

TEST(RecordFilesTest, PathsStayBelowTheRoot) {
  v1::RunRecord record = Record();
  EXPECT_EQ(RecordFiles::PathOf("anna", "7.3.4+deb13-cloud-amd64", record),
            "anna/7.3.4+deb13-cloud-amd64-unknown/" + scenario::RecordFileName(record));
  record.set_project_commit("0123abc-dirty");
  EXPECT_EQ(RecordFiles::PathOf("..", "../6.14", record),
            "_../_.._6.14-0123abc-dirty/" + scenario::RecordFileName(record));
}

TEST(RecordFilesTest, PublishesJsonAndReplacesTheSameVariant) {
  auto dir = *base::TempDir::Make("records");
  const RecordFiles files(dir.path());
  const std::string path = RecordFiles::PathOf("anna", "7.3.4", Record());
  for (const v1::Verdict verdict : {v1::PASS, v1::FAIL}) {
    auto staged = files.Stage(path, Record(verdict));
    ASSERT_TRUE(staged.ok()) << staged.status();
    const auto text = base::ReadFile(dir.path() + "/" + path);
    EXPECT_EQ(text.ok(), verdict == v1::FAIL);
    ASSERT_TRUE(staged->Publish().ok());
    v1::RunRecord read;
    ASSERT_TRUE(scenario::FromJson(*base::ReadFile(dir.path() + "/" + path), &read).ok());
    EXPECT_EQ(read.verdict(), verdict);
  }
  EXPECT_EQ(base::ListDir(dir.path() + "/anna/7.3.4-unknown")->size(), 1u);
}

TEST(RecordFilesTest, WhatIsNotPublishedIsRemoved) {
  auto dir = *base::TempDir::Make("records");
  const RecordFiles files(dir.path());
  const std::string path = RecordFiles::PathOf("anna", "7.3.4", Record());
  const std::string run_dir = dir.path() + "/anna/7.3.4-unknown";
  {
    auto staged = files.Stage(path, Record());
    EXPECT_EQ(base::ListDir(run_dir)->size(), 1u);
  }
  EXPECT_TRUE(base::ListDir(run_dir)->empty());
  // As a killed daemon leaves it.
  ASSERT_TRUE(base::WriteFileAtomic(run_dir + "/.r-0007.staged", "{").ok());
  ASSERT_TRUE(base::WriteFileAtomic(run_dir + "/kept.ktstr.json", "{}").ok());
  ASSERT_TRUE(files.Clean().ok());
  EXPECT_EQ(*base::ListDir(run_dir), std::vector<std::string>{"kept.ktstr.json"});
}

TEST(RecordFilesTest, HeldLockIsNamedWithItsHolder) {
  auto dir = *base::TempDir::Make("records");
  const RecordFiles files(dir.path(), absl::Milliseconds(50));
  const std::string path = RecordFiles::PathOf("anna", "k", Record());
  ASSERT_TRUE(base::MakeDirs(dir.path() + "/.locks").ok());
  auto lock =
      base::FileLock::TryAcquire(dir.path() + "/.locks/k-unknown.lock", base::LockMode::kExclusive);
  ASSERT_TRUE(lock.ok());
  const auto staged = files.Stage(path, Record());
  EXPECT_EQ(staged.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(staged.status().message()),
              testing::AllOf(testing::HasSubstr("flock LOCK_EX on run-dir"),
                             testing::HasSubstr("k-unknown.lock"),
                             testing::HasSubstr(std::to_string(getpid()))));
}

}  // namespace
}  // namespace ktstr::daemon
