// SPDX-License-Identifier: Apache-2.0
#include "cache/apt_fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/subprocess.h"
#include "cache/apt_sources.h"
#include "cache/test_kernel.h"

namespace ktstr::cache {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST(AptSourcesTest, ReadsIndexTargets) {
  std::vector<AptTarget> targets = ParseIndexTargets(
      "http://m/debian/|trixie|main|/etc/apt/sources.list.d/debian.sources:1|Debian\n"
      "http://m/debian/|trixie|main|$(SOURCESENTRY)|$(LABEL)\nnoise\n");
  ASSERT_EQ(targets.size(), 2u);
  EXPECT_EQ(targets[0].entry, "/etc/apt/sources.list.d/debian.sources:1");
  EXPECT_EQ(targets[1].label, "");
}

TEST(AptSourcesTest, FindsTheKeyOfAnEntry) {
  const char* deb822 =
      "# comment\nTypes: deb\nSuites: a\nSigned-By: /k/one.gpg\n\n\n# x\nTypes: deb\nSigned-By:\n"
      " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\nSuites: b\n";
  EXPECT_EQ(SignedByOf(deb822, true, 1), "/k/one.gpg");
  EXPECT_EQ(SignedByOf(deb822, true, 2), "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc");
  EXPECT_EQ(SignedByOf(deb822, true, 3), "");
  const char* list =
      "# first\ndeb [arch=amd64 signed-by=/k/two.gpg] http://m s main\ndeb http://m t main\n";
  EXPECT_EQ(SignedByOf(list, false, 2), "/k/two.gpg");
  EXPECT_EQ(SignedByOf(list, false, 3), "");
}

TEST(AptSourcesTest, TheHostsSuitesAndOneMore) {
  AptSourcesInput input;
  input.host = {
      {"http://s/debian-security/", "bookworm-security", "main", "f:2", "Debian-Security"},
      {"http://m/debian/", "bookworm", "main", "f:1", "Debian"},
      {"http://m/debian/", "bookworm", "contrib", "f:1", "Debian"},
      {"http://other/node/", "nodistro", "main", "g:1", "node"}};
  input.suites = {"trixie-backports", "bookworm"};
  input.archive_keyring = "/k/archive.gpg";
  input.signed_by = [](const std::string& entry) { return entry == "f:1" ? "/k/host.gpg" : ""; };
  absl::StatusOr<std::string> sources = MakeAptSources(input);
  ASSERT_TRUE(sources.ok()) << sources.status();
  EXPECT_EQ(*sources,
            "Types: deb\nURIs: http://m/debian/\nSuites: bookworm\nComponents: contrib main\n"
            "Architectures: amd64\nSigned-By: /k/host.gpg\n\n"
            "Types: deb\nURIs: http://s/debian-security/\nSuites: bookworm-security\n"
            "Components: main\nArchitectures: amd64\n\n"
            "Types: deb\nURIs: http://m/debian/\nSuites: trixie-backports\n"
            "Components: main contrib\nArchitectures: amd64\nSigned-By: /k/archive.gpg\n\n");
  input.host = {{"http://u/ubuntu/", "noble", "main", "f:1", "Ubuntu"}};
  EXPECT_THAT(MessageOf(MakeAptSources(input).status()), HasSubstr("no Debian mirror"));
}

TEST(AptSourcesTest, ConfiguredTargetsFillInForListsThatAreNotThere) {
  const AptTarget listed = {"http://m/debian/", "trixie", "main", "f:1", "Debian"};
  const AptTarget third_party = {"http://d/linux/debian/", "trixie", "stable", "g:1", "Vendor"};
  AptTarget unlabelled = listed, vendor = third_party;
  unlabelled.label = vendor.label = "";
  const AptTarget updates = {"http://m/debian/", "trixie-updates", "main", "f:1", ""};
  std::vector<AptTarget> merged =
      MergeTargets({listed, third_party}, {unlabelled, vendor, updates, updates});
  ASSERT_EQ(merged.size(), 3u);
  // Listed targets keep their label: only that shows a third-party repository.
  EXPECT_EQ(merged[0].label, "Debian");
  EXPECT_EQ(merged[1].label, "Vendor");
  EXPECT_EQ(merged[2].suite, "trixie-updates");
}

// An unsigned repository in a directory, which the host's real apt reads.
class AptFetchTest : public ::testing::Test {
 protected:
  AptFetchTest() : dir_(*base::TempDir::Make("ktstr-apt-test")), repo_(dir_.path() + "/repo") {
    options_.state_dir = dir_.path() + "/state";
    options_.dest_dir = dir_.path() + "/dest";
    options_.progress = [this](const std::string& line) { progress_.push_back(line); };
    options_.sources_override = absl::StrCat("deb [trusted=yes] copy:", repo_, " ./\n");
  }
  void SetUp() override {
    if (!base::FindProgram("apt-get").ok()) GTEST_SKIP() << "no apt-get on this host";
    ASSERT_TRUE(base::MakeDirs(repo_).ok());
  }
  // `depends`: "Depends: ...\n" or empty.
  void AddPackage(const std::string& name, const std::string& depends = "", size_t size = 100) {
    std::string content;  // Hard to compress, so that the package has about this size.
    for (uint64_t i = 0, x = 1; i < size; ++i) {
      content.push_back(
          static_cast<char>((x = x * 6364136223846793005u + 1442695040888963407u) >> 56));
    }
    std::string deb = MakeDeb({.package = name,
                               .version = "1:7.3-1",
                               .extra_control = depends,
                               .files = {{"./boot/vmlinuz-7.3", content}},
                               .compression = Compression::kGzip});
    std::string file = name + "_7.3-1_amd64.deb";
    ASSERT_TRUE(base::WriteFileAtomic(absl::StrCat(repo_, "/", file), deb).ok());
    absl::StrAppend(&packages_, "Package: ", name, "\nVersion: 1:7.3-1\nArchitecture: amd64\n",
                    "Maintainer: Test <t@example.org>\n", depends, "Filename: ./", file,
                    "\nSize: ", deb.size(), "\nSHA256: ", base::Sha256Hex(deb),
                    "\nDescription: for a test\n\n");
    ASSERT_TRUE(base::WriteFileAtomic(repo_ + "/Packages", packages_).ok());
  }
  std::string RepoFile(const std::string& package) {
    return absl::StrCat(repo_, "/", package, "_7.3-1_amd64.deb");
  }
  absl::StatusOr<std::vector<std::string>> Fetch(const std::string& package) {
    options_.package = package;
    return FetchPackages(options_);
  }
  std::vector<std::string> Destination() { return *base::ListDir(options_.dest_dir); }

  base::TempDir dir_;
  const std::string repo_;
  std::string packages_;
  std::vector<std::string> progress_;
  AptFetchOptions options_;
};

TEST_F(AptFetchTest, OnePackage) {
  AddPackage("linux-image-7.3");
  absl::StatusOr<std::vector<std::string>> paths = Fetch("linux-image-7.3");
  ASSERT_TRUE(paths.ok()) << paths.status();
  EXPECT_THAT(*paths, ElementsAre(options_.dest_dir + "/linux-image-7.3_1%3a7.3-1_amd64.deb"));
  EXPECT_EQ(*base::ReadFile(paths->front()), *base::ReadFile(RepoFile("linux-image-7.3")));
  EXPECT_FALSE(progress_.empty());
  ASSERT_TRUE(Fetch("linux-image-7.3").ok());  // Again, with lists from before.
}

TEST_F(AptFetchTest, MetapackageToBinaryAndBase) {
  AddPackage("linux-image-amd64", "Depends: linux-image-7.3 (= 7.3-1)\n");
  AddPackage("linux-image-7.3", "Depends: linux-base-7.3, linux-binary-7.3\n");
  AddPackage("linux-binary-7.3");
  AddPackage("linux-base-7.3");
  absl::StatusOr<std::vector<std::string>> paths = Fetch("linux-image-amd64");
  ASSERT_TRUE(paths.ok()) << paths.status();
  EXPECT_THAT(*paths, ElementsAre(HasSubstr("/linux-binary-7.3_"), HasSubstr("/linux-base-7.3_")));
}

TEST_F(AptFetchTest, BinaryWithoutBase) {
  AddPackage("linux-binary-7.3");
  absl::StatusOr<std::vector<std::string>> paths = Fetch("linux-binary-7.3");
  ASSERT_TRUE(paths.ok()) << paths.status();
  EXPECT_EQ(paths->size(), 1u);
  EXPECT_THAT(absl::StrJoin(progress_, "\n"), HasSubstr("comes without its configuration"));
}

TEST_F(AptFetchTest, UnknownPackageListsTheNearest) {
  AddPackage("linux-image-7.3-cloud-amd64");
  AddPackage("hello");
  absl::Status status = Fetch("linux-image-7.3-clud-amd64").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("no package 'linux-image-7.3-clud-amd64'"),
                                       HasSubstr("\n  linux-image-7.3-cloud-amd64")));
  for (const char* bad : {"", "-oDebug=1", "a b", "Linux", "../x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Fetch(bad).status())) << bad;
  }
  options_.suites = {"--evil"};
  EXPECT_TRUE(absl::IsInvalidArgument(Fetch("hello").status()));
}

TEST_F(AptFetchTest, DamagedRepository) {
  // Not "copy:": from apt 3 on it reports every mismatch as "Undetermined Error".
  options_.sources_override = absl::StrCat("deb [trusted=yes] file:", repo_, " ./\n");
  AddPackage("linux-image-7.3", "", 5000);
  std::string good = *base::ReadFile(RepoFile("linux-image-7.3"));
  std::string bad = good;
  bad[bad.size() / 2] ^= 1;
  ASSERT_TRUE(base::WriteFileAtomic(RepoFile("linux-image-7.3"), bad).ok());
  absl::Status status = Fetch("linux-image-7.3").status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("Hash Sum mismatch"));
  ASSERT_TRUE(base::WriteFileAtomic(RepoFile("linux-image-7.3"), good.substr(0, 1000)).ok());
  status = Fetch("linux-image-7.3").status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  ASSERT_EQ(unlink(RepoFile("linux-image-7.3").c_str()), 0);
  status = Fetch("linux-image-7.3").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(MessageOf(status), StartsWith("apt-get download exited with 100: E: "));
  EXPECT_THAT(Destination(), IsEmpty());
}

TEST_F(AptFetchTest, UnreachableMirror) {
  options_.sources_override = "deb [trusted=yes] http://127.0.0.1:1/ ./\n";
  absl::Status status = Fetch("linux-image-7.3").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("apt-get update"), HasSubstr("127.0.0.1"),
                                       HasSubstr("hint: is the network there?")));
}

TEST_F(AptFetchTest, Cancel) {
  AddPackage("linux-image-7.3");
  options_.cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(Fetch("linux-image-7.3").status()));
  EXPECT_THAT(Destination(), IsEmpty());
}

TEST_F(AptFetchTest, FullDisk) {
  AddPackage("linux-image-7.3", "", 6 << 20);
  ASSERT_TRUE(base::MakeDirs(options_.dest_dir).ok());
  if (mount("tmpfs", options_.dest_dir.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "needs to mount a tmpfs (root): " << strerror(errno);
  }
  absl::Status status = Fetch("linux-image-7.3").status();
  std::vector<std::string> left = Destination();
  umount2(options_.dest_dir.c_str(), MNT_DETACH);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("hint: free space below"));
  EXPECT_THAT(left, IsEmpty());
}

// A host like a container image: with sources, but without package lists.
TEST_F(AptFetchTest, HostWithoutPackageLists) {
  ASSERT_TRUE(base::MakeDirs(dir_.path() + "/host/lists/partial").ok());
  const std::string list = dir_.path() + "/host/sources.list";
  const std::string conf = dir_.path() + "/host/apt.conf";
  ASSERT_TRUE(
      base::WriteFileAtomic(list, "deb [trusted=yes] http://127.0.0.1:1/debian/ stable main\n")
          .ok());
  ASSERT_TRUE(
      base::WriteFileAtomic(conf, absl::StrCat("Dir::State::lists \"", dir_.path(),
                                               "/host/lists\";\n", "Dir::Etc::sourcelist \"", list,
                                               "\";\nDir::Etc::sourceparts \"-\";\n"))
          .ok());
  setenv("APT_CONFIG", conf.c_str(), 1);
  options_.sources_override.clear();
  options_.suites = {"stable-backports"};
  absl::Status status = Fetch("linux-image-7.3").status();
  unsetenv("APT_CONFIG");
  // FetchPackages found and tried both suites; in this test no mirror listens there.
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  absl::StatusOr<std::string> sources =
      base::ReadFile(options_.state_dir + "/sources.d/ktstr.sources");
  ASSERT_TRUE(sources.ok()) << sources.status();
  EXPECT_THAT(*sources, AllOf(HasSubstr("URIs: http://127.0.0.1:1/debian/\nSuites: stable\n"),
                              HasSubstr("Suites: stable-backports\nComponents: main\n")));
}

TEST_F(AptFetchTest, NotADebianHost) {
  const char* before = getenv("PATH");
  ASSERT_NE(before, nullptr);
  const std::string path = before;
  setenv("PATH", "/nonexistent", 1);
  absl::Status status = Fetch("linux-image-7.3").status();
  setenv("PATH", path.c_str(), 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("not a Debian or Ubuntu host"));
}

}  // namespace
}  // namespace ktstr::cache
