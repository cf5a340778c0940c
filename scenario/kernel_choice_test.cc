// SPDX-License-Identifier: Apache-2.0
#include "scenario/kernel_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scenario/version_order.h"

namespace ktstr::scenario {
namespace {

using ::testing::HasSubstr;

std::vector<CachedKernel> Kernels() {
  return {
      {"b", "7.3.4", "7.3.4+deb13-cloud-amd64", true, 1},
      {"c", "7.3.4", "7.3.4+deb13-rt-amd64", true, 2},
      {"a", "7.30.1", "7.30.1-amd64", false, 5},
      {"d", "7.3.1", "7.3.1-amd64", true, 9},
      {"e", "6.18.15", "6.18.15-local", true, 3},
      {"g", "6.18.15", "6.18.15-local", true, 4},
      {"f", "", "", false, 0},  // Corrupt.
  };
}

// The key of the chosen kernel, or the name of the error.
std::string KeyOf(const std::string& name, bool needs_sched_ext = false) {
  std::vector<CachedKernel> kernels = Kernels();
  const absl::StatusOr<KernelChoice> choice = ChooseKernel(kernels, name, needs_sched_ext);
  const std::string key =
      choice.ok() ? kernels[choice->index].key : absl::StatusCodeToString(choice.status().code());
  // The order of the kernels does not matter.
  std::reverse(kernels.begin(), kernels.end());
  const absl::StatusOr<KernelChoice> reversed = ChooseKernel(kernels, name, needs_sched_ext);
  EXPECT_EQ(reversed.status(), choice.status());
  if (reversed.ok()) {
    EXPECT_EQ(kernels[reversed->index].key, key) << name;
  }
  return key;
}

TEST(KernelChoiceTest, KeyReleaseVersionAndPrefix) {
  EXPECT_EQ(KeyOf("b"), "b");
  EXPECT_EQ(KeyOf("f"), "f");  // Corrupt, but `kernel show` must find it.
  EXPECT_EQ(KeyOf("7.3.4+deb13-rt-amd64"), "c");
  EXPECT_EQ(KeyOf("7.3.1"), "d");
  EXPECT_EQ(KeyOf("7"), "a");
  EXPECT_EQ(KeyOf("7.30"), "a");
}

TEST(KernelChoiceTest, SeveralOfOneVersionAreAmbiguous) {
  for (const char* name : {"7.3.4", "7.3", "6", "6.18.15", "6.18.15-local"}) {
    EXPECT_EQ(KeyOf(name), "INVALID_ARGUMENT") << name;
  }
  EXPECT_EQ(KeyOf("7", /*needs_sched_ext=*/true), "INVALID_ARGUMENT");
  EXPECT_EQ(
      ChooseKernel(Kernels(), "7.3", false).status().message(),
      "kernel '7.3' is ambiguous: 2 cached kernels match. Name one by its release or its "
      "key:\n  release 7.3.4+deb13-rt-amd64  key c\n  release 7.3.4+deb13-cloud-amd64  key b");
  EXPECT_THAT(std::string(ChooseKernel(Kernels(), "6", false).status().message()),
              HasSubstr("Name one by its key:"));
}

TEST(KernelChoiceTest, TheDefaultDoesNotFollowTheLastFetch) {
  EXPECT_EQ(KeyOf(""), "a");
  EXPECT_EQ(KeyOf("", /*needs_sched_ext=*/true), "b");
  std::vector<CachedKernel> kernels = Kernels();
  EXPECT_EQ(ChooseKernel(kernels, "", true)->why,
            "newest version in the cache, can do sched_ext, cached before the 1 other of that "
            "version");
  // Another kernel of that version does not change the choice; a newer version does.
  kernels.push_back({"0", "7.3.4", "7.3.4-a", true, 10});
  EXPECT_EQ(kernels[ChooseKernel(kernels, "", true)->index].key, "b");
  kernels.push_back({"n", "7.3.5", "7.3.5-a", true, 11});
  EXPECT_EQ(kernels[ChooseKernel(kernels, "", true)->index].key, "n");
}

TEST(KernelChoiceTest, NothingMatches) {
  for (const char* name : {"5", "7.31", "7.3.40", "h", "cloud"}) {
    EXPECT_EQ(KeyOf(name), "NOT_FOUND") << name;
  }
  EXPECT_THAT(std::string(ChooseKernel({}, "", false).status().message()),
              HasSubstr("no kernel found (the cache is empty)"));
  EXPECT_EQ(KeyOf("7.30.1", /*needs_sched_ext=*/true), "FAILED_PRECONDITION");
  EXPECT_EQ(KeyOf("a", /*needs_sched_ext=*/true), "FAILED_PRECONDITION");
}

TEST(KernelChoiceTest, OrderOfLists) {
  std::vector<CachedKernel> kernels = Kernels();
  std::sort(kernels.begin(), kernels.end(), ListedBefore);
  std::string order;
  for (const CachedKernel& kernel : kernels) absl::StrAppend(&order, kernel.key);
  EXPECT_EQ(order, "acbdegf");
}

TEST(VersionOrderTest, Order) {
  const char* ascending[] = {"6.9", "6.12-rc1", "6.12-rc10", "6.12", "6.12.9", "6.12.10", "7.3.4"};
  for (size_t i = 0; i < std::size(ascending); ++i) {
    for (size_t j = 0; j < std::size(ascending); ++j) {
      int order = CompareVersions(ascending[i], ascending[j]);
      EXPECT_EQ(order < 0, i < j) << ascending[i] << " " << ascending[j];
      EXPECT_EQ(order > 0, i > j) << ascending[i] << " " << ascending[j];
    }
  }
}

TEST(VersionOrderTest, Prefix) {
  EXPECT_TRUE(IsVersionPrefix("7", "7.3.4"));
  EXPECT_TRUE(IsVersionPrefix("7.3", "7.3.4"));
  EXPECT_TRUE(IsVersionPrefix("7.3.4", "7.3.4"));
  EXPECT_FALSE(IsVersionPrefix("7.3", "7.30.1"));
  EXPECT_FALSE(IsVersionPrefix("7.3.4.5", "7.3.4"));
  EXPECT_FALSE(IsVersionPrefix("", "7.3.4"));
}

}  // namespace
}  // namespace ktstr::scenario
