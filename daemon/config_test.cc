// SPDX-License-Identifier: Apache-2.0
#include "daemon/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"

namespace ktstr::daemon {
namespace {

using testing::HasSubstr;

TEST(ConfigTest, DefaultsAreFilledIn) {
  const auto config = ParseConfig("", "k.txtpb");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_GE(config->max_running_vms(), 1u);
  EXPECT_EQ(config->idle_exit_seconds(), 600u);
  EXPECT_EQ(config->max_queued_runs(), 10000u);
  EXPECT_EQ(config->blob_budget_mb(), 4096u);
  EXPECT_EQ(config->run_budget_mb(), 4096u);
  EXPECT_EQ(config->qemu_path(), "qemu-system-x86_64");
  EXPECT_EQ(config->kernel_suites(0), "trixie-backports");
  EXPECT_EQ(DefaultConfig(1).max_running_vms(), 1u);
  EXPECT_EQ(DefaultConfig(16).max_running_vms(), 16u);
  EXPECT_EQ(DefaultConfig(1).prepared_vms(), 2u);
  EXPECT_EQ(DefaultConfig(16).prepared_vms(), 16u);
  EXPECT_EQ(DefaultConfig(100).prepared_vms(), 64u);
}

TEST(ConfigTest, KeepsWhatIsSet) {
  const auto config = ParseConfig("max_running_vms: 3\nkernel_suites: \"sid\"\n", "k.txtpb");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->max_running_vms(), 3u);
  ASSERT_EQ(config->kernel_suites_size(), 1);
}

TEST(ConfigTest, IdleExitOfZeroIsNever) {
  EXPECT_EQ(ParseConfig("idle_exit_seconds: 0", "k")->idle_exit_seconds(), 0u);
  EXPECT_EQ(ParseConfig("idle_exit_seconds: 604800", "k")->idle_exit_seconds(), 604800u);
  EXPECT_FALSE(ParseConfig("idle_exit_seconds: 604801", "k").ok());
}

struct BadConfig {
  const char* text;
  const char* message;
};

class BadConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, IsRefusedWithItsPlace) {
  const auto config = ParseConfig(GetParam().text, "k.txtpb");
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfigTest,
    testing::Values(
        BadConfig{"max_vms: 3", "k.txtpb:1:1: DaemonConfig has no field 'max_vms'"},
        BadConfig{"max_runing_vms: 3\nprepared_vms: 65",
                  "k.txtpb:1:1: DaemonConfig has no field 'max_runing_vms'; did you "
                  "mean 'max_running_vms'?\nk.txtpb:2:1: prepared_vms is 65"},
        BadConfig{"\n  max_running_vms: \"x\"", "k.txtpb:2:20: "},
        BadConfig{"max_running_vms: 2000", "k.txtpb:1:1: max_running_vms is 2000, at most 1024"},
        BadConfig{"max_running_vms: -1", "k.txtpb:1:"},
        BadConfig{"idle_exit_seconds: 5\nmax_kept_runs: 4000000000", "k.txtpb:2:1: "},
        BadConfig{"kernel_suites: \"a\"\nkernel_suites: \"../x\"",
                  "k.txtpb:2:1: kernel_suites: '../x'"},
        BadConfig{"\xff\xfe", "k.txtpb:1:1: this is a binary file, not a configuration"}));

TEST(ConfigTest, TooLargeIsRefused) {
  EXPECT_EQ(ParseConfig(std::string(70000, '#'), "k").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CommandLineTest, AllOptions) {
  const auto line = ParseCommandLine({"--private", "--socket", "/s", "--cache-dir=/c", "--ready-fd",
                                      "5", "--config", "/f", "--idle-exit-seconds=0"});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_TRUE(line->private_daemon);
  EXPECT_EQ(line->socket, "/s");
  EXPECT_EQ(line->cache_dir, "/c");
  EXPECT_EQ(line->ready_fd, 5);
  EXPECT_EQ(line->config_file, "/f");
  EXPECT_EQ(line->idle_exit_seconds, 0u);
}

TEST(CommandLineTest, RefusesByName) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--nonsense"}, "--nonsense"},
      {{"run"}, "run"},
      {{"--socket"}, "--socket: needs a value"},
      {{"--socket", "--private"}, "--socket: needs a value"},
      {{"--ready-fd", "x"}, "--ready-fd: 'x'"},
      {{"--ready-fd", "-1"}, "--ready-fd"},
      {{"--idle-exit-seconds=99999999"}, "--idle-exit-seconds"}};
  for (const auto& [args, message] : cases) {
    const auto line = ParseCommandLine(args);
    EXPECT_EQ(line.status().code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(line.status().message()), HasSubstr(message));
  }
}

TEST(CommandLineTest, ConfigFileErrorsComeThrough) {
  auto dir = base::TempDir::Make("config");
  CommandLine line{
      .private_daemon = true, .cache_dir = "/c", .config_file = dir->path() + "/missing"};
  EXPECT_EQ(MakeServerOptions(line).status().code(), absl::StatusCode::kNotFound);
  line.config_file = dir->path() + "/bad";
  ASSERT_TRUE(base::WriteFileAtomic(line.config_file, "x: 1").ok());
  EXPECT_THAT(std::string(MakeServerOptions(line).status().message()),
              HasSubstr("/bad:1:1: DaemonConfig has no field 'x'"));
}

}  // namespace
}  // namespace ktstr::daemon
