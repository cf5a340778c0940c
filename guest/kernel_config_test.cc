// SPDX-License-Identifier: Apache-2.0
#include "guest/kernel_config.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::guest {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class OptionNamesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto dir = base::TempDir::Make("kernel-config");
    ASSERT_TRUE(dir.ok()) << dir.status();
    dir_.emplace(*std::move(dir));
  }
  // '~' stands for NUL.
  std::vector<std::string> Of(std::string content) {
    for (char& c : content) {
      if (c == '~') c = '\0';
    }
    const std::string path = base::JoinPath(dir_->path(), "program");
    EXPECT_TRUE(base::WriteFileAtomic(path, content).ok());
    return OptionNames(path);
  }
  std::optional<base::TempDir> dir_;
};

TEST_F(OptionNamesTest, OfTheStringsOfAnObject) {
  EXPECT_THAT(Of("ELF~CONFIG_HZ~int~CONFIG_PREEMPT_RCU~CONFIG_HZ~.kconfig~"),
              ElementsAre("CONFIG_HZ", "CONFIG_PREEMPT_RCU"));
}

TEST_F(OptionNamesTest, OtherTextIsNone) {
  EXPECT_THAT(Of("~CONFIG_HZ~"), IsEmpty());  // No object reads options.
  EXPECT_THAT(Of("~.kconfig~xCONFIG_HZ~CONFIG_hz~CONFIG_~CONFIG_A B~CONFIG_NO_END"), IsEmpty());
  EXPECT_THAT(OptionNames("/nonexistent"), IsEmpty());
}

TEST_F(OptionNamesTest, AcrossPieces) {
  const std::string text = "~CONFIG_HZ~.kconfig~";
  for (size_t before = 0; before <= text.size(); ++before) {
    const std::string padding(3 * (size_t{1} << 20) - before, 'x');
    EXPECT_THAT(Of(absl::StrCat(padding, text)), ElementsAre("CONFIG_HZ")) << before;
  }
}

TEST_F(OptionNamesTest, AreBounded) {
  std::string text = "~.kconfig~";
  for (int i = 0; i < 100; ++i) absl::StrAppend(&text, "CONFIG_", i, "~");
  EXPECT_EQ(Of(text).size(), kMaxOptionNames);
  std::string unending = "~.kconfig~";
  for (int i = 0; i < 1'000'000; ++i) unending += "CONFIG_";
  EXPECT_THAT(Of(unending), IsEmpty());
  EXPECT_THAT(Of("~.kconfig~CONFIG_" + std::string(1 << 20, 'A') + "~"), IsEmpty());
}

TEST_F(OptionNamesTest, ConfigurationIsFoundWhereLibbpfLooks) {
  EXPECT_FALSE(HasKernelConfig(dir_->path()));
  ASSERT_TRUE(base::MakeDirs(base::JoinPath(dir_->path(), "proc")).ok());
  ASSERT_TRUE(base::WriteFileAtomic(base::JoinPath(dir_->path(), "proc/config.gz"), "").ok());
  EXPECT_TRUE(HasKernelConfig(dir_->path()));
}

}  // namespace
}  // namespace ktstr::guest
