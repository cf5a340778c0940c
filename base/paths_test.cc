// SPDX-License-Identifier: Apache-2.0
#include "base/paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace ktstr::base {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<std::string> Resolve(const std::map<std::string, std::string>& env) {
  return CacheDirFrom([&env](const char* name) -> const char* {
    auto found = env.find(name);
    return found == env.end() ? nullptr : found->second.c_str();
  });
}

TEST(CacheDirTest, OrderOfVariables) {
  EXPECT_EQ(*Resolve({{"HOME", "/home/u"}}), "/home/u/.cache/ktstr");
  EXPECT_EQ(*Resolve({{"HOME", "/home/u"}, {"XDG_CACHE_HOME", "/x"}}), "/x/ktstr");
  EXPECT_EQ(*Resolve({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}, {"KTSTR_CACHE_DIR", "/k"}}), "/k");
  EXPECT_EQ(*Resolve({{"KTSTR_CACHE_DIR", "/k"}}), "/k");
  EXPECT_EQ(*Resolve({{"HOME", "/h"}, {"XDG_CACHE_HOME", ""}, {"KTSTR_CACHE_DIR", ""}}),
            "/h/.cache/ktstr");
}

TEST(CacheDirTest, HomeUnset) {
  absl::StatusOr<std::string> dir = Resolve({});
  ASSERT_EQ(dir.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(dir.status().message()),
            "HOME is unset; cannot resolve cache directory. The container init or login shell did "
            "not assign HOME — set it to an absolute path, or set KTSTR_CACHE_DIR to an absolute "
            "path (e.g. /tmp/ktstr-cache) or XDG_CACHE_HOME to specify a cache location "
            "explicitly.");
}

TEST(CacheDirTest, HomeEmpty) {
  absl::StatusOr<std::string> dir = Resolve({{"HOME", ""}});
  ASSERT_EQ(dir.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(dir.status().message()),
              StartsWith("HOME is set to the empty string; cannot resolve cache directory. An "
                         "empty HOME usually means a Dockerfile"));
}

TEST(CacheDirTest, RelativePathsAreRefusedByName) {
  for (const char* name : {"KTSTR_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}) {
    absl::StatusOr<std::string> dir = Resolve({{name, "rel/dir"}});
    ASSERT_EQ(dir.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(dir.status().message()),
                HasSubstr(std::string(name) + " is 'rel/dir'"));
  }
}

std::string Socket(const std::map<std::string, std::string>& env) {
  return PrivateSocketPath(
      [&env](const char* name) -> const char* {
        const auto it = env.find(name);
        return it == env.end() ? nullptr : it->second.c_str();
      },
      7);
}

TEST(PrivateSocketPathTest, FollowsTheRuntimeDirectory) {
  EXPECT_EQ(Socket({{"HOME", "/h"}, {"XDG_RUNTIME_DIR", "/run/user/7"}}),
            "/run/user/7/ktstr/ktstrd.sock");
  EXPECT_EQ(Socket({{"HOME", "/h"}}), "/tmp/ktstr-7/ktstrd.sock");
  EXPECT_EQ(Socket({{"HOME", "/h"}, {"XDG_RUNTIME_DIR", ""}}), "/tmp/ktstr-7/ktstrd.sock");
  EXPECT_EQ(Socket({{"HOME", "/h"}, {"XDG_RUNTIME_DIR", "rel"}}), "/tmp/ktstr-7/ktstrd.sock");
  EXPECT_EQ(Socket({}), "/tmp/ktstr-7/ktstrd.sock");
}

TEST(PrivateSocketPathTest, AnotherCacheHasAnotherDaemon) {
  const std::string a = Socket({{"HOME", "/h"}, {"KTSTR_CACHE_DIR", "/a"}});
  const std::string b = Socket({{"HOME", "/h"}, {"KTSTR_CACHE_DIR", "/b"}});
  EXPECT_THAT(a, testing::MatchesRegex("/tmp/ktstr-7/ktstrd-[0-9a-f]+\\.sock"));
  EXPECT_NE(a, b);
  EXPECT_EQ(a, Socket({{"XDG_CACHE_HOME", "/x"}, {"KTSTR_CACHE_DIR", "/a"}}));
  EXPECT_EQ(Socket({{"HOME", "/h"}, {"KTSTR_CACHE_DIR", "/h/.cache/ktstr"}}),
            "/tmp/ktstr-7/ktstrd.sock");
}

}  // namespace
}  // namespace ktstr::base
