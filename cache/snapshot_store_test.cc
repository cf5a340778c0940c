// SPDX-License-Identifier: Apache-2.0
#include "cache/snapshot_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::cache {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kBudget = 64 * kMiB;

class SnapshotStoreTest : public ::testing::Test {
 protected:
  // RAM with holes around two pieces of data.
  static SnapshotFiles Make(char fill) {
    SnapshotFiles files;
    files.state = *base::MakeMemfd("state", 0);
    EXPECT_TRUE(base::WriteAll(files.state.get(), std::string(5000, fill), "state").ok());
    for (int node = 0; node < 2; ++node) {
      base::UniqueFd ram = *base::MakeMemfd("ram", 4 * kMiB);
      Put(ram.get(), 8192, std::string(3 * kMiB / 2, fill));
      Put(ram.get(), 4 * kMiB - 4096, std::string(4096, static_cast<char>(fill + 1)));
      files.ram.push_back(std::move(ram));
    }
    return files;
  }
  static void Put(int fd, uint64_t at, const std::string& bytes) {
    ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
  }
  static std::string Bytes(int fd) {
    struct stat info;
    EXPECT_EQ(fstat(fd, &info), 0);
    std::string bytes(static_cast<size_t>(info.st_size), '\0');
    EXPECT_EQ(pread(fd, bytes.data(), bytes.size(), 0), info.st_size);
    return bytes;
  }
  absl::Status Store(SnapshotStore& store, const std::string& identity, const SnapshotFiles& f) {
    return store.Store({identity, "7.3.4 1n1l4c1t", owner_, saves_ms_}, f.state.get(),
                       {f.ram[0].get(), f.ram[1].get()});
  }
  std::string FileOf(const std::string& identity, const std::string& name) {
    return base::JoinPath(base::JoinPath(dir_, SnapshotStore::KeyOf(identity)), name);
  }
  void Flip(const std::string& path, uint64_t at) {
    base::UniqueFd fd = *base::Open(path, O_RDWR);
    char byte;
    ASSERT_EQ(pread(fd.get(), &byte, 1, static_cast<off_t>(at)), 1);
    byte = static_cast<char>(byte ^ 4);
    ASSERT_EQ(pwrite(fd.get(), &byte, 1, static_cast<off_t>(at)), 1);
  }

  std::optional<uid_t> owner_;  // Of what Store() stores.
  uint32_t saves_ms_ = 0;
  base::TempDir temp_ = *base::TempDir::Make("snapshots");
  std::string dir_ = base::JoinPath(temp_.path(), "snapshots");
};

TEST_F(SnapshotStoreTest, WhatIsStoredComesBackSealed) {
  SnapshotStore store(dir_, kBudget);
  EXPECT_TRUE(absl::IsNotFound(store.Load("one").status()));
  const SnapshotFiles files = Make('a');
  ASSERT_TRUE(Store(store, "one", files).ok());
  SnapshotStore later(dir_, kBudget);  // Another daemon.
  auto loaded = later.Load("one");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(Bytes(loaded->state.get()), Bytes(files.state.get()));
  ASSERT_EQ(loaded->ram.size(), 2u);
  for (int node = 0; node < 2; ++node) {
    EXPECT_TRUE(Bytes(loaded->ram[node].get()) == Bytes(files.ram[node].get()));
    EXPECT_TRUE(base::IsSealed(loaded->ram[node].get()));
    EXPECT_LT(pwrite(loaded->ram[node].get(), "x", 1, 0), 0);
  }
  EXPECT_TRUE(absl::IsNotFound(later.Load("two").status()));
  // Holes stay holes.
  auto entries = later.List();
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_LT((*entries)[0].disk_bytes(), 4 * kMiB);
  EXPECT_EQ((*entries)[0].label(), "7.3.4 1n1l4c1t");
  EXPECT_EQ((*entries)[0].error(), "");
}

// With one wrong bit anywhere, the store never returns the snapshot.
TEST_F(SnapshotStoreTest, AFlippedBitIsDetected) {
  SnapshotStore store(dir_, kBudget);
  const SnapshotFiles files = Make('a');
  const std::pair<const char*, uint64_t> places[] = {{"ram-0", 8192},
                                                     {"ram-1", 8192 + 3 * kMiB / 2 - 1},
                                                     {"ram-1", 4 * kMiB - 1},
                                                     {"ram-0", 3 * kMiB},  // In a hole.
                                                     {"state", 0},
                                                     {"state", 4999}};
  for (const auto& [name, at] : places) {
    ASSERT_TRUE(Store(store, "one", files).ok());
    Flip(FileOf("one", name), at);
    auto loaded = store.Load("one");
    ASSERT_TRUE(absl::IsDataLoss(loaded.status())) << name << " " << at << loaded.status();
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(name));
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("checksum"));
    // The store has removed it, so that the next run makes a new one.
    EXPECT_TRUE(absl::IsNotFound(store.Load("one").status()));
  }
}

TEST_F(SnapshotStoreTest, DamagedEntriesAreRemoved) {
  SnapshotStore store(dir_, kBudget);
  const SnapshotFiles files = Make('a');
  const struct {
    const char* file;
    const char* content;  // Null: the file is removed.
    const char* message;
  } cases[] = {
      {"ram-1", nullptr, "ram-1"},
      {"state", "short", "5 bytes instead of 5000"},
      {"metadata.json", "", "metadata.json"},
      {"metadata.json", "{", "metadata.json"},
      {"metadata.json", R"({"schemaVersion": 2})", "schema version 2"},
      {"metadata.json", R"({"schemaVersion": 1, "identity": "other"})", "another snapshot"},
  };
  for (const auto& c : cases) {
    ASSERT_TRUE(Store(store, "one", files).ok());
    const std::string path = FileOf("one", c.file);
    ASSERT_TRUE(base::RemoveAll(path).ok());
    if (c.content != nullptr) {
      ASSERT_TRUE(base::WriteFileAtomic(path, c.content).ok());
    }
    auto loaded = store.Load("one");
    ASSERT_TRUE(absl::IsDataLoss(loaded.status())) << c.message << loaded.status();
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(c.message));
    EXPECT_TRUE(absl::IsNotFound(store.Load("one").status()));
  }
}

TEST_F(SnapshotStoreTest, MetadataCannotNameOtherFiles) {
  SnapshotStore store(dir_, kBudget);
  ASSERT_TRUE(Store(store, "one", Make('a')).ok());
  const std::string path = FileOf("one", "metadata.json");
  std::string text = *base::ReadFile(path);
  const size_t at = text.find("\"ram-0\"");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 7, "\"../x\"");
  ASSERT_TRUE(base::WriteFileAtomic(path, text).ok());
  EXPECT_TRUE(absl::IsDataLoss(store.Load("one").status()));
}

TEST_F(SnapshotStoreTest, LeastRecentlyUsedGoAboveTheBudget) {
  SnapshotStore store(dir_, 8 * kMiB);  // Room for two.
  for (const char* name : {"one", "two"}) {
    ASSERT_TRUE(Store(store, name, Make('a')).ok());
    // File times are coarse; these are far apart.
    const timespec times[2] = {{.tv_sec = 1000 + (name[0] == 't'), .tv_nsec = 0},
                               {.tv_sec = 1000 + (name[0] == 't'), .tv_nsec = 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, FileOf(name, "metadata.json").c_str(), times, 0), 0);
  }
  ASSERT_TRUE(store.Load("one").ok());  // Counts as a use: now "two" is older.
  ASSERT_TRUE(Store(store, "three", Make('a')).ok());
  EXPECT_TRUE(absl::IsNotFound(store.Load("two").status()));
  EXPECT_TRUE(store.Load("one").ok());
  EXPECT_TRUE(store.Load("three").ok());
}

// A snapshot is worth what it saves, and half as much each day.
TEST_F(SnapshotStoreTest, WhatSavesLeastGoesFirst) {
  const auto age = [this](const std::string& identity, int days) {
    const timespec at = {.tv_sec = time(nullptr) - days * time_t{86400}, .tv_nsec = 0};
    const timespec times[] = {at, at};
    ASSERT_EQ(utimensat(AT_FDCWD, FileOf(identity, "metadata.json").c_str(), times, 0), 0);
  };
  SnapshotStore store(dir_, 7 * kMiB);  // Room for two.
  owner_ = 1000;
  saves_ms_ = 20'000;
  ASSERT_TRUE(Store(store, "slow verifier", Make('a')).ok());
  owner_ = std::nullopt;
  saves_ms_ = 900;
  ASSERT_TRUE(Store(store, "boot", Make('b')).ok());
  age("slow verifier", 2);  // 5000 by now, still more than 900.
  ASSERT_TRUE(Store(store, "new", Make('c')).ok());
  EXPECT_TRUE(absl::IsNotFound(store.Load("boot").status()));
  age("slow verifier", 9);
  ASSERT_TRUE(Store(store, "newer", Make('d')).ok());
  EXPECT_TRUE(absl::IsNotFound(store.Load("slow verifier").status()));
  EXPECT_TRUE(store.Load("new").ok());
  const auto entries = store.List();
  ASSERT_TRUE(entries.ok());
  for (const v1::SnapshotEntry& entry : *entries) {
    EXPECT_FALSE(entry.has_owner());
    EXPECT_EQ(entry.saves_ms(), 900u);
  }
}

TEST_F(SnapshotStoreTest, LargerThanTheBudgetIsNotKept) {
  SnapshotStore store(dir_, kMiB);
  const absl::Status stored = Store(store, "one", Make('a'));
  EXPECT_TRUE(absl::IsFailedPrecondition(stored));
  EXPECT_THAT(std::string(stored.message()), HasSubstr("snapshot_budget_mb"));
  EXPECT_TRUE(store.List()->empty());
  EXPECT_TRUE(base::ListDir(base::JoinPath(dir_, ".tmp"))->empty());
}

TEST_F(SnapshotStoreTest, WhatAKilledWriterLeftIsRemoved) {
  ASSERT_TRUE(base::MakeDirs(base::JoinPath(dir_, ".tmp/half")).ok());
  SnapshotStore store(dir_, kBudget);
  EXPECT_TRUE(base::ListDir(base::JoinPath(dir_, ".tmp"))->empty());
}

TEST_F(SnapshotStoreTest, CleanRemovesAll) {
  SnapshotStore store(dir_, kBudget);
  ASSERT_TRUE(Store(store, "one", Make('a')).ok());
  ASSERT_TRUE(Store(store, "two", Make('b')).ok());
  auto removed = store.Clean();
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed->size(), 2u);
  EXPECT_TRUE(store.List()->empty());
  EXPECT_TRUE(Store(store, "one", Make('a')).ok());  // The store still works.
}

TEST_F(SnapshotStoreTest, DirectoryThatCannotBeMade) {
  ASSERT_TRUE(base::WriteFileAtomic(dir_, "a file").ok());
  SnapshotStore store(dir_, kBudget);
  EXPECT_FALSE(Store(store, "one", Make('a')).ok());
  EXPECT_FALSE(store.Load("one").ok());
}

}  // namespace
}  // namespace ktstr::cache
