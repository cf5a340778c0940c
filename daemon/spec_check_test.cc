// SPDX-License-Identifier: Apache-2.0
#include "daemon/spec_check.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <functional>

namespace ktstr::daemon {
namespace {

constexpr uint64_t kMaxFile = scenario::LimitOf("FileRef.size").max;

v1::RunSpec GoodSpec() {
  v1::RunSpec spec;
  const std::string text =
      "scenario { name: 'steady' scheduler { name: 'scx_mine' }"
      "  step { cgroup { name: 'a' work { workers: 1 spin_wait {} } } } }"
      "files { guest_path: 'bin/scx_mine' sha256: '" +
      std::string(64, 'a') +
      "' size: 10 executable: true } scheduler_path: 'bin/scx_mine' project_commit: '0123abc-dirty'"
      " run_source: 'ci'";
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

TEST(SpecCheckTest, AcceptsGood) { EXPECT_EQ(CheckRunSpec(GoodSpec()), absl::OkStatus()); }

TEST(SpecCheckTest, TimeLimitCountsTheAttach) {
  v1::RunSpec spec = GoodSpec();
  EXPECT_EQ(TimeoutMs(spec), 1'980'000u);
  spec.mutable_scenario()->mutable_scheduler()->set_attach_timeout_ms(60'000);
  EXPECT_EQ(TimeoutMs(spec), 240'000u);
  spec.set_timeout_ms(5000);
  EXPECT_EQ(TimeoutMs(spec), 5000u);
}

TEST(SpecCheckTest, RealSizesCount) {
  v1::RunSpec spec = GoodSpec();
  std::map<std::string, uint64_t> sizes = {{spec.files(0).sha256(), 10}};
  EXPECT_EQ(CheckFileSizes(spec, sizes), absl::OkStatus());
  sizes.begin()->second = 11;
  EXPECT_THAT(std::string(CheckFileSizes(spec, sizes).message()),
              testing::AllOf(testing::HasSubstr("files[0].size: 10, but blob aaaa"),
                             testing::HasSubstr("has 11 bytes")));
  // Twice the largest file is exactly what a bundle may have.
  spec.mutable_files(0)->set_size(kMaxFile);
  *spec.add_files() = spec.files(0);
  sizes.begin()->second = kMaxFile;
  EXPECT_EQ(CheckFileSizes(spec, sizes), absl::OkStatus());
  const std::string one(64, 'b');
  sizes[one] = 1;
  spec.add_files()->set_sha256(one);
  spec.mutable_files(2)->set_size(1);
  EXPECT_THAT(std::string(CheckFileSizes(spec, sizes).message()),
              testing::HasSubstr("files: 1073741825 bytes together, at most 1073741824"));
}

struct BadSpec {
  const char* field;
  std::function<void(v1::RunSpec*)> change;
};

class BadSpecTest : public testing::TestWithParam<BadSpec> {};

TEST_P(BadSpecTest, IsRefusedByField) {
  v1::RunSpec spec = GoodSpec();
  GetParam().change(&spec);
  const absl::Status status = CheckRunSpec(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(GetParam().field));
}

std::function<void(v1::RunSpec*)> Path(const std::string& path) {
  return [path](v1::RunSpec* s) {
    *s->add_files() = s->files(0);
    s->mutable_files(1)->set_guest_path(path);
  };
}

INSTANTIATE_TEST_SUITE_P(
    All, BadSpecTest,
    testing::Values(
        BadSpec{"name", [](v1::RunSpec* s) { s->mutable_scenario()->clear_name(); }},
        BadSpec{"engine", [](v1::RunSpec* s) { s->set_engine(static_cast<v1::Engine>(9)); }},
        BadSpec{"kernel", [](v1::RunSpec* s) { s->set_kernel(std::string(300, 'k')); }},
        BadSpec{"files[1].guest_path", Path("")}, BadSpec{"files[1].guest_path", Path("/bin/sh")},
        BadSpec{"files[1].guest_path", Path("lib/../../etc/passwd")},
        BadSpec{"files[1].guest_path", Path("lib//x")}, BadSpec{"files[1].guest_path", Path("./x")},
        BadSpec{"files[1].guest_path", Path("bin/scx_mine")},
        BadSpec{"files[1].guest_path", Path("plan.pb")}, BadSpec{"files: ", Path("bin/scx_mine/x")},
        BadSpec{"files[1].guest_path", Path(std::string("a\0b", 3))},
        BadSpec{"files[0].sha256", [](v1::RunSpec* s) { s->mutable_files(0)->set_sha256("A"); }},
        BadSpec{"files[0].size", [](v1::RunSpec* s) { s->mutable_files(0)->set_size(1ull << 40); }},
        BadSpec{"files: 1025",
                [](v1::RunSpec* s) {
                  while (s->files_size() < 1025) s->add_files();
                }},
        BadSpec{"scheduler_path", [](v1::RunSpec* s) { s->set_scheduler_path("bin/other"); }},
        BadSpec{"scheduler_path",
                [](v1::RunSpec* s) { s->mutable_files(0)->set_executable(false); }},
        BadSpec{"scheduler_path", [](v1::RunSpec* s) { s->mutable_scenario()->clear_scheduler(); }},
        BadSpec{"no executable 'bin/scx_delay'",
                [](v1::RunSpec* s) {
                  auto* perturb = s->mutable_scenario()->mutable_perturb();
                  perturb->add_delay_point()->set_callback("enqueue");
                }},
        BadSpec{"timeout_ms", [](v1::RunSpec* s) { s->set_timeout_ms(UINT32_MAX); }},
        BadSpec{"reproduction",
                [](v1::RunSpec* s) {
                  s->mutable_reproduction()->set_scheduler(std::string(70000, 'x'));
                }},
        BadSpec{"project_commit", [](v1::RunSpec* s) { s->set_project_commit("../../x"); }},
        BadSpec{"project_commit", [](v1::RunSpec* s) { s->set_project_commit("abc"); }},
        BadSpec{"run_source", [](v1::RunSpec* s) { s->set_run_source("moon"); }}));

}  // namespace
}  // namespace ktstr::daemon
