// SPDX-License-Identifier: Apache-2.0
//
// Imports real packages of the distribution: KTSTR_TEST_DEBS is a directory with linux-image-*.deb,
// or with linux-binary-*.deb and its linux-base-*.deb. tests/run's vm stage fetches them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/file.h"
#include "base/string_view.h"
#include "cache/kernel_cache.h"

namespace ktstr::cache {
namespace {

// The package with the image, then the one with its configuration when there is one.
std::vector<std::string> PackagesOf(const std::string& directory, const std::string& name,
                                    const std::vector<std::string>& names) {
  std::vector<std::string> paths = {base::JoinPath(directory, name)};
  absl::string_view rest = name;
  if (!absl::ConsumePrefix(&rest, "linux-binary-")) return paths;
  const std::string config = absl::StrCat("linux-base-", rest);
  for (const std::string& other : names) {
    if (other == config) paths.push_back(base::JoinPath(directory, other));
  }
  return paths;
}

TEST(RealPackagesTest, EachBecomesAKernelThatResolves) {
  const char* directory = getenv("KTSTR_TEST_DEBS");
  if (directory == nullptr || *directory == '\0') {
    GTEST_SKIP() << "KTSTR_TEST_DEBS names no directory with kernel packages";
  }
  absl::StatusOr<base::TempDir> temporary = base::TempDir::Make("ktstr-real-packages");
  ASSERT_TRUE(temporary.ok()) << temporary.status();
  auto cache = KernelCache::Open(temporary->path());
  ASSERT_TRUE(cache.ok()) << cache.status();
  absl::StatusOr<std::vector<std::string>> names = base::ListDir(directory);
  ASSERT_TRUE(names.ok()) << names.status();
  int kernels = 0;
  for (const std::string& name : *names) {
    if (!absl::EndsWith(name, ".deb") ||
        !(absl::StartsWith(name, "linux-image-") || absl::StartsWith(name, "linux-binary-"))) {
      continue;
    }
    SCOPED_TRACE(name);
    ++kernels;
    const std::vector<std::string> packages = PackagesOf(directory, name, *names);
    std::vector<base::UniqueFd> fds;
    std::vector<KernelCache::File> files;
    for (const std::string& path : packages) {
      absl::StatusOr<base::UniqueFd> fd = base::Open(path, O_RDONLY);
      ASSERT_TRUE(fd.ok()) << fd.status();
      files.push_back({fd->get(), path});
      fds.push_back(*std::move(fd));
    }
    absl::StatusOr<std::vector<KernelCache::Imported>> all =
        (*cache)->Import(files, /*config_text=*/"", getuid());
    ASSERT_TRUE(all.ok()) << all.status();
    ASSERT_EQ(all->size(), 1u);
    const KernelCache::Imported* imported = &all->front();
    EXPECT_FALSE(imported->already_there);
    const v1::KernelMetadata& metadata = imported->entry.metadata();
    EXPECT_TRUE(absl::StartsWith(metadata.key(), metadata.release() + "-x86_64-"));
    EXPECT_FALSE(metadata.version().empty());
    EXPECT_TRUE(absl::StrContains(name, metadata.version())) << metadata.version();
    EXPECT_FALSE(metadata.build_id().empty());
    EXPECT_TRUE(metadata.sched_ext());
    for (const char* file : {"vmlinux", "vmlinux.btf", "config"}) {
      EXPECT_TRUE(
          base::Exists(absl::StrCat(temporary->path(), "/kernels/", metadata.key(), "/", file)))
          << file;
    }
    absl::StatusOr<ResolvedKernel> resolved =
        (*cache)->Resolve(metadata.key(), /*needs_sched_ext=*/true);
    EXPECT_TRUE(resolved.ok()) << resolved.status();
  }
  EXPECT_GT(kernels, 0) << directory << " holds no kernel package";
}

}  // namespace
}  // namespace ktstr::cache
