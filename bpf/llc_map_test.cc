// SPDX-License-Identifier: Apache-2.0
#include "bpf/llc_map.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::bpf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LlcMapTest : public ::testing::Test {
 protected:
  LlcMapTest() {
    std::string pattern = ::testing::TempDir() + "llc_map.XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~LlcMapTest() override { std::filesystem::remove_all(root_); }

  void AddCache(int cpu, int index, int level, const std::string& shared) {
    const std::string dir = root_ + "/devices/system/cpu/cpu" + std::to_string(cpu) +
                            "/cache/index" + std::to_string(index);
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/level") << level << "\n";
    std::ofstream(dir + "/shared_cpu_list") << shared << "\n";
  }
  void AddCpuWithoutCache(int cpu) {
    std::filesystem::create_directories(root_ + "/devices/system/cpu/cpu" + std::to_string(cpu));
  }

  std::string root_;
};

TEST_F(LlcMapTest, NumbersLlcsByLowestCpu) {
  for (int cpu = 0; cpu < 4; ++cpu) {
    AddCache(cpu, 0, 1, std::to_string(cpu));
    AddCache(cpu, 1, 2, std::to_string(cpu));
    AddCache(cpu, 2, 3, cpu < 2 ? "0-1" : "2-3");
  }
  EXPECT_THAT(ReadLlcMap(root_, 1024, 128), ElementsAre(0, 0, 1, 1));
}

TEST_F(LlcMapTest, InterleavedSiblings) {
  AddCache(0, 0, 3, "0,2");
  AddCache(1, 0, 3, "1,3");
  AddCache(2, 0, 3, "0,2");
  AddCache(3, 0, 3, "1,3");
  EXPECT_THAT(ReadLlcMap(root_, 1024, 128), ElementsAre(0, 1, 0, 1));
}

TEST_F(LlcMapTest, HighestLevelCountsEvenIfItIsNotTheThird) {
  AddCache(0, 0, 1, "0");
  AddCache(0, 1, 2, "0-1");
  AddCache(1, 0, 1, "1");
  AddCache(1, 1, 2, "0-1");
  EXPECT_THAT(ReadLlcMap(root_, 1024, 128), ElementsAre(0, 0));
}

TEST_F(LlcMapTest, NoCacheInformationMeansOneLlc) {
  AddCpuWithoutCache(0);
  AddCpuWithoutCache(1);
  EXPECT_THAT(ReadLlcMap(root_, 1024, 128), ElementsAre(0, 0));
}

TEST_F(LlcMapTest, LimitsHold) {
  for (int cpu = 0; cpu < 5; ++cpu) AddCache(cpu, 0, 3, std::to_string(cpu));
  EXPECT_THAT(ReadLlcMap(root_, 3, 128), ElementsAre(0, 1, 2));
  EXPECT_THAT(ReadLlcMap(root_, 1024, 2), ElementsAre(0, 1, 0, 1, 0));
}

TEST_F(LlcMapTest, UnreadableTreeIsEmpty) {
  EXPECT_THAT(ReadLlcMap(root_ + "/absent", 1024, 128), IsEmpty());
}

}  // namespace
}  // namespace ktstr::bpf
