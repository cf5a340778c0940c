// SPDX-License-Identifier: Apache-2.0
#include "cache/kernel_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/string_view.h"
#include "cache/kernel_image.h"
#include "cache/test_kernel.h"

namespace ktstr::cache {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr uid_t kOwner = 1234;  // Not the uid of the test, which may be 0.

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

std::string ImageOf(const std::string& release, bool sched_ext = true) {
  return MakeBzImage(
      Pack(Compression::kZstd,
           MakeVmlinux({.release = release, .sched_ext = sched_ext, .build_id = release + "-id"})));
}

std::string DebOf(const std::string& release, bool sched_ext = true, bool config = true) {
  TestFiles files = {{absl::StrCat("./boot/vmlinuz-", release), ImageOf(release, sched_ext)}};
  if (config) files.push_back({absl::StrCat("./boot/config-", release), "CONFIG_SMP=y\n"});
  return MakeDeb({.package = "linux-image-" + release, .version = "1-1", .files = files});
}

absl::StatusOr<KernelCache::Imported> ImportInto(KernelCache* cache, const std::string& data,
                                                 const std::string& config = "") {
  const base::UniqueFd fd = FdOf(data);
  auto imported = cache->Import({{fd.get(), "file.deb"}}, config, kOwner);
  if (!imported.ok()) return imported.status();
  EXPECT_EQ(imported->size(), 1u);
  return imported->front();
}

class KernelCacheTest : public ::testing::Test {
 protected:
  KernelCacheTest() : dir_(*base::TempDir::Make("ktstr-cache-test")) { Reopen(); }

  void Reopen() {
    cache_.reset();
    auto cache = KernelCache::Open(dir_.path());
    ASSERT_TRUE(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
  }
  absl::StatusOr<KernelCache::Imported> Import(const std::string& data,
                                               const std::string& config = "") {
    return ImportInto(cache_.get(), data, config);
  }
  std::string MustImport(const std::string& data) {
    absl::StatusOr<KernelCache::Imported> imported = Import(data);
    EXPECT_TRUE(imported.ok()) << imported.status();
    return imported.ok() ? imported->entry.metadata().key() : "";
  }
  std::string EntryPath(const std::string& key, const std::string& file) {
    return absl::StrCat(dir_.path(), "/kernels/", key, "/", file);
  }
  // The error_kind of the only entry.
  std::string Kind() {
    absl::StatusOr<std::vector<v1::KernelEntry>> entries = cache_->List();
    EXPECT_TRUE(entries.ok());
    EXPECT_EQ(entries->size(), 1u);
    const v1::KernelEntry& entry = entries->front();
    EXPECT_EQ(entry.error().empty(), entry.error_kind().empty());
    EXPECT_NE(entry.metadata().key(), "");
    return entry.error_kind();
  }
  void ExpectNothingLeft() {
    EXPECT_THAT(*base::ListDir(absl::StrCat(dir_.path(), "/.tmp")), IsEmpty());
    EXPECT_THAT(*base::ListDir(absl::StrCat(dir_.path(), "/kernels")), IsEmpty());
  }
  void Edit(const std::string& path, absl::string_view from, absl::string_view to) {
    std::string text = *base::ReadFile(path);
    ASSERT_TRUE(absl::StrContains(text, from)) << text;
    ASSERT_TRUE(base::WriteFileAtomic(path, absl::StrReplaceAll(text, {{from, to}})).ok());
  }

  base::TempDir dir_;
  std::unique_ptr<KernelCache> cache_;
};

TEST_F(KernelCacheTest, ImportsAPackage) {
  absl::StatusOr<KernelCache::Imported> imported = Import(DebOf("7.3.4+x"));
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_FALSE(imported->already_there);
  const v1::KernelMetadata& metadata = imported->entry.metadata();
  EXPECT_EQ(metadata.key(),
            "7.3.4+x-x86_64-" +
                base::Sha256Hex(MakeVmlinux({.release = "7.3.4+x", .build_id = "7.3.4+x-id"}))
                    .substr(0, 16));
  EXPECT_EQ(metadata.source(), "deb");
  EXPECT_EQ(metadata.owner_uid(), kOwner);
  EXPECT_EQ(metadata.version(), "7.3.4");
  EXPECT_EQ(metadata.release(), "7.3.4+x");
  EXPECT_EQ(metadata.source_detail(), "linux-image-7.3.4+x 1-1");
  EXPECT_TRUE(metadata.sched_ext());
  EXPECT_THAT(*base::ListDir(absl::StrCat(dir_.path(), "/kernels/", metadata.key())),
              ElementsAre("bzImage", "config", "metadata.json", "vmlinux", "vmlinux.btf"));
  EXPECT_EQ(*base::ReadFile(EntryPath(metadata.key(), "vmlinux")),
            MakeVmlinux({.release = "7.3.4+x", .build_id = "7.3.4+x-id"}));
  EXPECT_EQ(*base::ReadFile(EntryPath(metadata.key(), "config")), "CONFIG_SMP=y\n");
  absl::StatusOr<KernelCache::Imported> again = Import(DebOf("7.3.4+x"));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->already_there);
  EXPECT_EQ(Kind(), "");
}

TEST_F(KernelCacheTest, ImportsImages) {
  absl::StatusOr<KernelCache::Imported> imported = Import(ImageOf("7.3.4"), "CONFIG_SMP=y\n");
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(imported->entry.metadata().source(), "image");
  EXPECT_EQ(imported->entry.metadata().owner_uid(), kOwner);
  EXPECT_TRUE(base::Exists(EntryPath(imported->entry.metadata().key(), "config")));
  absl::StatusOr<KernelCache::Imported> plain = Import(MakeVmlinux({.build_id = ""}));
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_FALSE(base::Exists(EntryPath(plain->entry.metadata().key(), "bzImage")));
}

// A file chooses its own build ID, package and version: they must not lead to another file's entry.
TEST_F(KernelCacheTest, AFileCannotTakeTheKeyOfAnother) {
  auto vmlinux = [](size_t padding) {
    return MakeVmlinux({.release = "7.3.4+x", .build_id = "the same one", .padding = padding});
  };
  auto deb = [](const std::string& image) {
    return MakeDeb({.package = "linux-image-7.3.4+x",
                    .version = "1-1",
                    .files = {{"./boot/vmlinuz-7.3.4+x", image}}});
  };
  const std::string files[] = {vmlinux(100), vmlinux(200), deb(vmlinux(300)), deb(vmlinux(400))};
  for (const std::string& file : files) {
    absl::StatusOr<KernelCache::Imported> imported = Import(file);
    ASSERT_TRUE(imported.ok()) << imported.status();
    EXPECT_FALSE(imported->already_there) << imported->entry.DebugString();
  }
  EXPECT_EQ(cache_->List()->size(), 4u);
}

// The digits of a key can be those of another content.
TEST_F(KernelCacheTest, OneKeyIsOneContent) {
  const std::string image = MakeVmlinux({.release = "7.3.4+x"});
  const std::string key = MustImport(image);
  const std::string other = MustImport(MakeVmlinux({.release = "7.3.4+x", .padding = 100}));
  ASSERT_TRUE(base::RemoveAll(EntryPath(key, "")).ok());
  ASSERT_EQ(rename(EntryPath(other, "").c_str(), EntryPath(key, "").c_str()), 0);
  Edit(EntryPath(key, "metadata.json"), other, key);
  const absl::Status status = Import(image).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("is cached with another vmlinux"));
}

TEST_F(KernelCacheTest, OneContentIsOneEntry) {
  const std::string key = MustImport(ImageOf("7.3.4+x"));
  absl::StatusOr<KernelCache::Imported> again = Import(DebOf("7.3.4+x"));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->entry.metadata().key(), key);
  EXPECT_EQ(MustImport(MakeVmlinux({.release = "7.3.4+x", .build_id = "7.3.4+x-id"})), key);
  EXPECT_EQ(Kind(), "");
}

TEST_F(KernelCacheTest, ConfigComesLater) {
  std::string key = MustImport(DebOf("7.3.4+x", true, /*config=*/false));
  EXPECT_FALSE(base::Exists(EntryPath(key, "config")));
  EXPECT_FALSE(cache_->List()->front().has_config());
  std::string base_deb = MakeDeb({.package = "linux-base-7.3.4+x",
                                  .files = {{"./usr/lib/modules/7.3.4+x/config", "CONFIG_B=y\n"}}});
  absl::StatusOr<KernelCache::Imported> added = Import(base_deb);
  ASSERT_TRUE(added.ok()) << added.status();
  EXPECT_EQ(added->entry.metadata().key(), key);
  EXPECT_FALSE(added->already_there);
  EXPECT_EQ(*base::ReadFile(EntryPath(key, "config")), "CONFIG_B=y\n");
  EXPECT_TRUE(Import(base_deb)->already_there);
  EXPECT_TRUE(cache_->List()->front().has_config());
  EXPECT_EQ(Kind(), "");
}

// An entry of an earlier version of ktstr has another key, and keeps it.
TEST_F(KernelCacheTest, AnEntryWithAnOldKeyWorks) {
  const std::string key = MustImport(DebOf("7.3.4+x"));
  const std::string old_key = "deb-linux-image-7.3.4+x-1-1-x86_64";
  Edit(EntryPath(key, "metadata.json"), key, old_key);
  ASSERT_EQ(rename(EntryPath(key, "").c_str(), EntryPath(old_key, "").c_str()), 0);
  EXPECT_EQ(Kind(), "");
  for (const std::string& name : {old_key, std::string("7.3.4+x"), std::string("7.3")}) {
    absl::StatusOr<ResolvedKernel> kernel = cache_->Resolve(name, true);
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_EQ(kernel->metadata.key(), old_key);
  }
  EXPECT_EQ(MustImport(DebOf("7.3.4+x")), old_key);
  EXPECT_EQ(Kind(), "");
}

TEST_F(KernelCacheTest, AnotherConfigurationOfOneKernelIsRefused) {
  const std::string key = MustImport(DebOf("7.3.4+x"));
  const absl::Status status = Import(ImageOf("7.3.4+x"), "CONFIG_OTHER=y\n").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("kernel " + key + " is cached with another "));
  EXPECT_TRUE(Import(ImageOf("7.3.4+x"), "CONFIG_SMP=y\n")->already_there);
}

TEST_F(KernelCacheTest, FilesThatBelongTogether) {
  const base::UniqueFd config_a =
      FdOf(MakeDeb({.package = "linux-base-7.3.4+x",
                    .files = {{"./usr/lib/modules/7.3.4+x/config", "CONFIG_A=y\n"}}}));
  const base::UniqueFd image_a = FdOf(DebOf("7.3.4+x", true, /*config=*/false));
  const base::UniqueFd image_b = FdOf(ImageOf("7.3.5+x"));
  // In the other order.
  auto imported = cache_->Import(
      {{config_a.get(), "base.deb"}, {image_a.get(), "a.deb"}, {image_b.get(), "bzImage"}},
      "CONFIG_B=y\n", kOwner);
  ASSERT_TRUE(imported.ok()) << imported.status();
  ASSERT_EQ(imported->size(), 2u);
  EXPECT_EQ(*base::ReadFile(EntryPath((*imported)[0].entry.metadata().key(), "config")),
            "CONFIG_A=y\n");
  EXPECT_EQ(*base::ReadFile(EntryPath((*imported)[1].entry.metadata().key(), "config")),
            "CONFIG_B=y\n");
}

TEST_F(KernelCacheTest, ConfigurationForSeveralKernelsOfOneRelease) {
  MustImport(MakeVmlinux({.release = "7.3.4+x", .padding = 100}));
  MustImport(MakeVmlinux({.release = "7.3.4+x", .padding = 200}));
  const absl::Status status =
      Import(MakeDeb({.package = "linux-base-7.3.4+x",
                      .files = {{"./usr/lib/modules/7.3.4+x/config", "CONFIG_A=y\n"}}}))
          .status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("2 cached kernels are of that release"));
}

TEST_F(KernelCacheTest, PackagesOfOtherDistributions) {
  const std::string release = "7.3.4-100.fc43.x86_64";
  absl::StatusOr<KernelCache::Imported> rpm =
      Import(MakeRpm({.files = {{"./lib/modules/" + release + "/vmlinuz", ImageOf(release)},
                                {"./lib/modules/" + release + "/config", "CONFIG_SMP=y\n"}}}));
  ASSERT_TRUE(rpm.ok()) << rpm.status();
  EXPECT_EQ(rpm->entry.metadata().source(), "rpm");
  EXPECT_EQ(rpm->entry.metadata().source_detail(), "kernel-core 7.3.4-100.fc43");
  EXPECT_TRUE(base::Exists(EntryPath(rpm->entry.metadata().key(), "config")));
  absl::StatusOr<KernelCache::Imported> pacman = Import(MakePacman(
      "pkgname = linux\npkgver = 7.3.4.arch1-1\narch = x86_64\n",
      {{"usr/lib/modules/7.3.4-arch1-1/vmlinuz", ImageOf("7.3.4-arch1-1")}}, Compression::kZstd));
  ASSERT_TRUE(pacman.ok()) << pacman.status();
  EXPECT_EQ(pacman->entry.metadata().source(), "pacman");
  EXPECT_EQ(pacman->entry.metadata().source_detail(), "linux 7.3.4.arch1-1");
  EXPECT_EQ(pacman->entry.metadata().release(), "7.3.4-arch1-1");
}

TEST_F(KernelCacheTest, BadInputsSayWhatTheyAre) {
  struct Case {
    std::string data;
    const char* message;
  };
  const std::string deb = DebOf("7.3.4");
  const Case cases[] = {
      {"", "an empty file"},
      {"<html><body>503</body></html>", "an HTML page"},
      {"random bytes", "something else (it begins with the bytes 72616e646f6d2062)"},
      {deb.substr(0, deb.size() / 2), "damaged or cut short"},
      {MakeDeb({.package = "hello", .files = {{"./usr/bin/hello", "x"}}}), "holds no kernel image"},
      {MakeDeb({.architecture = "arm64", .files = {{"./boot/vmlinuz-7", "x"}}}), "is for arm64"},
      {MakeDeb({.files = {{"./boot/vmlinuz-7", "no kernel"}}}), "boot/vmlinuz-7: not a bzImage"},
      {MakeDeb({.package = "linux-base-9.9", .files = {{"./boot/config-9.9", "CONFIG_A=y\n"}}}),
       "Import the package with the image too (linux-binary-9.9)"},
      {MakeRpm({.architecture = "aarch64", .files = {{"./lib/modules/7/vmlinuz", "x"}}}),
       "package kernel-core is for aarch64"},
      {MakeRpm({.files = {{"./etc/x", "x"}}}), "package kernel-core holds no kernel image"},
      {MakeRpm({.compressor = "bzip2"}), "unpack it with `rpm2cpio FILE | cpio -id`"},
      {MakeRpm({}).substr(0, 300), "damaged or cut short"},
      {MakePacman("", {{"linux/Makefile", "x"}}, Compression::kXz), "no .PKGINFO"},
      {MakePacman("", {{"linux/Makefile", "x"}}, Compression::kNone), "no .PKGINFO"},
      {Pack(Compression::kGzip, ImageOf("7.3.4")), "not a kernel but a gzip file; unpack it first"},
      {Pack(Compression::kZstd, MakeVmlinux({})), "not a kernel but a zstd file; unpack it first"},
      {MakeVmlinux({.machine = 183}), "aarch64"},
      {MakeVmlinux({.release = ""}), "not a Linux kernel"},
      {MakeVmlinux({.pvh = false}), "cannot be entered by PVH"},
  };
  for (const Case& bad : cases) {
    absl::StatusOr<KernelCache::Imported> imported = Import(bad.data);
    ASSERT_FALSE(imported.ok()) << bad.message;
    EXPECT_THAT(MessageOf(imported.status()),
                AllOf(StartsWith("file.deb: "), HasSubstr(bad.message)));
  }
  EXPECT_THAT(MessageOf(Import(ImageOf("7.3.4"), "no config").status()),
              HasSubstr("not a kernel .config"));
  base::UniqueFd huge = FdOf(MakeVmlinux({}));
  ASSERT_EQ(ftruncate(huge.get(), kMaxVmlinuxBytes + 1), 0);
  const absl::Status too_large = cache_->Import({{huge.get(), "huge"}}, "", 0).status();
  EXPECT_TRUE(absl::IsInvalidArgument(too_large)) << too_large;
  EXPECT_THAT(MessageOf(too_large),
              StartsWith("huge: 536870913 bytes are too large for a kernel image"));
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  base::UniqueFd read_end(fds[0]), write_end(fds[1]);
  EXPECT_THAT(MessageOf(cache_->Import({{read_end.get(), "pipe"}}, "", 0).status()),
              HasSubstr("not a regular file"));
  ExpectNothingLeft();
}

TEST_F(KernelCacheTest, TwoImportsAtOnce) {
  auto other = KernelCache::Open(dir_.path());
  ASSERT_TRUE(other.ok());
  const std::string deb = DebOf("7.3.4");
  int new_entries = 0;
  absl::StatusOr<KernelCache::Imported> results[4] = {
      absl::UnknownError(""), absl::UnknownError(""), absl::UnknownError(""),
      absl::UnknownError("")};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    KernelCache* cache = i % 2 == 0 ? cache_.get() : other->get();
    threads.emplace_back([&, i, cache] { results[i] = ImportInto(cache, deb); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) {
    ASSERT_TRUE(result.ok()) << result.status();
    new_entries += result->already_there ? 0 : 1;
  }
  EXPECT_EQ(new_entries, 1);
  EXPECT_EQ(Kind(), "");
}

TEST_F(KernelCacheTest, EveryErrorKind) {
  const std::string deb = DebOf("7.3.4");
  const std::string key = MustImport(deb);
  const std::string metadata = EntryPath(key, "metadata.json");
  const std::string good = *base::ReadFile(metadata);
  auto with = [&](const std::string& text) {
    EXPECT_TRUE(base::WriteFileAtomic(metadata, text).ok());
    return Kind();
  };
  EXPECT_EQ(with("{\"key\": 1,,}"), "malformed");
  EXPECT_EQ(with(good.substr(0, good.size() / 2)), "truncated");
  EXPECT_EQ(with(""), "truncated");
  EXPECT_EQ(with("{\"schemaVersion\": 2}"), "schema_drift");
  EXPECT_EQ(with("{}"), "schema_drift");
  EXPECT_EQ(with("{\"schemaVersion\": 1, \"files\": 7}"), "parse_error");
  EXPECT_EQ(with(absl::StrReplaceAll(good, {{"\"vmlinux\"", "\"../vmlinux\""}})), "parse_error");
  EXPECT_EQ(with(absl::StrReplaceAll(good, {{key, "other"}})), "unknown");
  EXPECT_EQ(with(good), "");
  ASSERT_EQ(unlink(metadata.c_str()), 0);
  EXPECT_EQ(Kind(), "missing");
  ASSERT_EQ(mkdir(metadata.c_str(), 0755), 0);
  EXPECT_EQ(Kind(), "unreadable");
  ASSERT_EQ(rmdir(metadata.c_str()), 0);
  ASSERT_EQ(with(good), "");
  ASSERT_EQ(truncate(EntryPath(key, "vmlinux").c_str(), 100), 0);
  EXPECT_EQ(Kind(), "checksum_mismatch");
  ASSERT_EQ(unlink(EntryPath(key, "vmlinux").c_str()), 0);
  EXPECT_EQ(Kind(), "image_missing");
  absl::Status resolved = cache_->Resolve(key, false).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(resolved));
  EXPECT_THAT(MessageOf(resolved), HasSubstr("is corrupt (image_missing)"));
  // A second import replaces it.
  absl::StatusOr<KernelCache::Imported> again = Import(deb);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->already_there);
  EXPECT_EQ(Kind(), "");
}

TEST_F(KernelCacheTest, ContentIsCheckedWhenItChanged) {
  const std::string key = MustImport(DebOf("7.3.4"));
  ASSERT_TRUE(cache_->Resolve(key, true).ok());
  Edit(EntryPath(key, "vmlinux"), "builder", "BUILDER");  // Same size.
  EXPECT_EQ(Kind(), "");
  absl::Status resolved = cache_->Resolve(key, true).status();
  EXPECT_THAT(MessageOf(resolved), HasSubstr("checksum_mismatch"));
}

TEST_F(KernelCacheTest, ResolvesByEveryName) {
  MustImport(DebOf("6.12.9", /*sched_ext=*/false));
  MustImport(DebOf("7.3.4+a"));
  const std::string old_key = MustImport(DebOf("7.3.10-b"));
  MustImport(DebOf("7.30.1", /*sched_ext=*/false));
  struct Case {
    const char* id;
    bool needs;
    const char* release;
    const char* why;
  };
  const Case cases[] = {
      {"", false, "7.30.1", "newest version in the cache"},
      {"", true, "7.3.10-b", "newest version in the cache, can do sched_ext"},
      {"7.3", true, "7.3.10-b", "newest version in the cache that matches '7.3', can do sched_ext"},
      {"7", true, "7.3.10-b", "newest version in the cache that matches '7', can do sched_ext"},
      {"7.3.4", false, "7.3.4+a", "its version is '7.3.4'"},
      {"7.3.4+a", false, "7.3.4+a", "its release is '7.3.4+a'"},
      {old_key.c_str(), true, "7.3.10-b", "named by its key"},
  };
  for (const Case& want : cases) {
    absl::StatusOr<ResolvedKernel> kernel = cache_->Resolve(want.id, want.needs);
    ASSERT_TRUE(kernel.ok()) << want.id << ": " << kernel.status();
    EXPECT_EQ(kernel->metadata.release(), want.release) << want.id;
    EXPECT_EQ(kernel->why, want.why);
    EXPECT_TRUE(base::Exists(absl::StrCat(kernel->dir, "/vmlinux")));
  }
  absl::StatusOr<std::vector<v1::KernelEntry>> entries = cache_->List();
  ASSERT_TRUE(entries.ok());
  for (const v1::KernelEntry& entry : *entries) {
    EXPECT_EQ(entry.last_used_unix_s() == 0, entry.metadata().release() == "6.12.9");
  }
  EXPECT_THAT(MessageOf(cache_->Resolve("6.12", true).status()),
              AllOf(HasSubstr("no kernel that matches '6.12' has sched_ext"),
                    HasSubstr("CONFIG_SCHED_CLASS_EXT=y")));
  EXPECT_TRUE(absl::IsNotFound(cache_->Resolve("5", true).status()));
  EXPECT_TRUE(absl::IsNotFound(cache_->Resolve("../etc", true).status()));
}

TEST_F(KernelCacheTest, PassesOverACorruptOne) {
  MustImport(DebOf("7.3.4"));
  const std::string newer = MustImport(DebOf("7.3.5"));
  ASSERT_EQ(unlink(EntryPath(newer, "vmlinux").c_str()), 0);
  absl::StatusOr<ResolvedKernel> kernel = cache_->Resolve("", true);
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  EXPECT_EQ(kernel->metadata.version(), "7.3.4");
  EXPECT_THAT(kernel->why, HasSubstr("passed over: kernel " + newer + " is corrupt"));
  EXPECT_EQ(cache_->List()->back().metadata().key(), newer);
}

TEST_F(KernelCacheTest, EmptyCacheGivesHints) {
  absl::Status status = cache_->Resolve("", true).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(MessageOf(status),
              AllOf(StartsWith("no kernel found (the cache is empty)\n  hint: set KTSTR_KERNEL"),
                    HasSubstr("`ktstrctl kernel fetch deb:PACKAGE`"), HasSubstr("\n  hint: or ")));
}

TEST_F(KernelCacheTest, AResolvedKernelIsLocked) {
  const std::string key = MustImport(DebOf("7.3.4"));
  const std::string lock = absl::StrCat(dir_.path(), "/.locks/", key, ".lock");
  {
    absl::StatusOr<ResolvedKernel> one = cache_->Resolve(key, true);
    absl::StatusOr<ResolvedKernel> two = cache_->Resolve(key, true);
    ASSERT_TRUE(one.ok() && two.ok());
    EXPECT_TRUE(
        absl::IsUnavailable(base::FileLock::TryAcquire(lock, base::LockMode::kExclusive).status()));
  }
  EXPECT_TRUE(base::FileLock::TryAcquire(lock, base::LockMode::kExclusive).ok());
}

TEST_F(KernelCacheTest, IndexIsRebuilt) {
  MustImport(DebOf("7.3.4"));
  const std::string index = absl::StrCat(dir_.path(), "/index.db");
  // The file disappears while it is open.
  for (const char* suffix : {"", "-wal", "-shm"}) unlink(absl::StrCat(index, suffix).c_str());
  EXPECT_TRUE(cache_->Resolve("7.3", true).ok());
  EXPECT_TRUE(base::Exists(index));
  // A file that is no database, and a database of another shape.
  for (const std::string& junk : {std::string(5000, 'x'), std::string()}) {
    cache_.reset();
    for (const char* suffix : {"-wal", "-shm"}) unlink(absl::StrCat(index, suffix).c_str());
    ASSERT_TRUE(base::WriteFileAtomic(index, junk).ok());
    Reopen();
    EXPECT_TRUE(cache_->Resolve("7.3", true).ok());
    EXPECT_EQ(Kind(), "");
  }
  // An entry that only the index has.
  ASSERT_TRUE(base::RemoveAll(absl::StrCat(dir_.path(), "/kernels")).ok());
  Reopen();
  EXPECT_THAT(*cache_->List(), IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(cache_->Resolve("7.3", true).status()));
}

TEST_F(KernelCacheTest, WhatAKilledImportLeftIsRemoved) {
  std::string left = absl::StrCat(dir_.path(), "/.tmp/entry.abcdef");
  ASSERT_TRUE(base::MakeDirs(left).ok());
  ASSERT_TRUE(base::WriteFileAtomic(absl::StrCat(left, "/vmlinux"), "half").ok());
  Reopen();
  ExpectNothingLeft();
}

// A small file system; invalid where mounting is not allowed.
class TmpfsMount {
 public:
  TmpfsMount(const std::string& path, const char* options)
      : path_(path), ok_(mount("tmpfs", path.c_str(), "tmpfs", 0, options) == 0) {}
  ~TmpfsMount() {
    if (ok_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool ok() const { return ok_; }

 private:
  const std::string path_;
  const bool ok_;
};

TEST_F(KernelCacheTest, FullDisk) {
  std::string path = absl::StrCat(dir_.path(), "/small");
  ASSERT_TRUE(base::MakeDirs(path).ok());
  TmpfsMount small(path, "size=256k");
  if (!small.ok()) GTEST_SKIP() << "needs to mount a tmpfs (root): " << strerror(errno);
  auto cache = KernelCache::Open(path);
  ASSERT_TRUE(cache.ok()) << cache.status();
  std::string vmlinux = MakeVmlinux({.padding = 1 << 20});
  absl::Status status = ImportInto(cache->get(), vmlinux).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr(path), HasSubstr("No space left on device"),
                                       HasSubstr("Free space there, or set KTSTR_CACHE_DIR")));
  EXPECT_THAT(*base::ListDir(path + "/.tmp"), IsEmpty());
  EXPECT_THAT(*base::ListDir(path + "/kernels"), IsEmpty());
}

TEST_F(KernelCacheTest, ReadOnlyCache) {
  std::string path = absl::StrCat(dir_.path(), "/ro");
  ASSERT_TRUE(base::MakeDirs(path).ok());
  TmpfsMount mounted(path, "size=4m");
  if (!mounted.ok()) GTEST_SKIP() << "needs to mount a tmpfs (root): " << strerror(errno);
  ASSERT_TRUE(ImportInto(KernelCache::Open(path)->get(), DebOf("7.3.4")).ok());
  ASSERT_EQ(mount(nullptr, path.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
  auto cache = KernelCache::Open(path);
  ASSERT_TRUE(cache.ok()) << cache.status();
  EXPECT_EQ((*cache)->List()->size(), 1u);
  absl::Status status = ImportInto(cache->get(), DebOf("7.3.5")).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status),
              AllOf(HasSubstr("Read-only file system"), HasSubstr("set KTSTR_CACHE_DIR")));
  status = KernelCache::Open(path + "/deeper").status();
  EXPECT_THAT(MessageOf(status), HasSubstr("Read-only file system"));
}

}  // namespace
}  // namespace ktstr::cache
