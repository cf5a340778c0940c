// SPDX-License-Identifier: Apache-2.0
//
// base/file.h when system calls fail, and when the process or the machine ends between two.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <optional>

#include "base/file.h"
#include "base/log.h"
#include "base/testing/fault_rounds.h"
#include "base/testing/faults.h"

namespace ktstr::base {
namespace {

std::string OldText() { return std::string(100'000, 'o'); }
std::string NewText() { return std::string(150'000, 'n'); }

TEST(FaultsTest, EachKindIsSeenByTheCaller) {
  auto dir = *TempDir::Make("faults");
  Faults faults(dir.path());
  const std::string path = dir.path() + "/file";
  faults.Arm(Fault::kIo, 1);
  EXPECT_EQ(Open(path, O_RDWR | O_CREAT, 0600).status().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(faults.fired());
  faults.Arm(Fault::kNoSpace, 2);
  auto fd = *Open(path, O_RDWR | O_CREAT, 0600);
  EXPECT_FALSE(faults.fired());
  EXPECT_EQ(write(fd.get(), "abcd", 4), -1);
  EXPECT_EQ(errno, ENOSPC);
  faults.Arm(Fault::kShort, 1);
  EXPECT_EQ(write(fd.get(), "abcd", 4), 2);
  EXPECT_EQ(write(fd.get(), "cd", 2), 2);
  faults.Arm(Fault::kIo, 2, /*lasting=*/true);
  EXPECT_EQ(fsync(fd.get()), 0);
  EXPECT_EQ(fsync(fd.get()), -1);
  EXPECT_EQ(fsync(fd.get()), -1);
  // Nothing fails outside the directory.
  auto other = TempDir::Make("faults-other");
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(WriteFileAtomic(other->path() + "/file", "x").ok());
  faults.Disarm();
  EXPECT_EQ(*ReadFile(path), "abcd");
}

// A power cut takes exactly the content and names that no fsync covers.
TEST(FaultsTest, PowerCutTakesWhatIsNotSynced) {
  for (const Fault fault : {Fault::kPowerCut, Fault::kPowerCutNamesStay, Fault::kPowerCutSizesStay,
                            Fault::kPowerCutContentStays}) {
    SCOPED_TRACE(FaultName(fault));
    const bool names_stay =
        fault == Fault::kPowerCutNamesStay || fault == Fault::kPowerCutSizesStay;
    const std::string more(4096, 'm');
    const std::string written = fault == Fault::kPowerCutContentStays ? "kept" + more
                                : fault == Fault::kPowerCutSizesStay
                                    ? "kept" + std::string(more.size(), '\0')
                                    : "kept";
    std::optional<TempDir> dir;
    const auto path = [&](const char* name) { return dir->path() + "/" + name; };
    const uint64_t steps = EndAtEachStep(
        fault,
        [&](uint64_t) {
          dir.emplace(*TempDir::Make("faults"));
          EXPECT_TRUE(WriteFileAtomic(path("old"), "old").ok());
          return dir->path();
        },
        [&](uint64_t) {
          auto kept = *Open(path("kept"), O_RDWR | O_CREAT, 0600);
          KTSTR_CHECK(WriteAll(kept.get(), "kept", "kept").ok());
          KTSTR_CHECK(fsync(kept.get()) == 0 && FsyncDir(dir->path()).ok());
          KTSTR_CHECK(WriteAll(kept.get(), more, "kept").ok());
          KTSTR_CHECK(rename(path("old").c_str(), path("renamed").c_str()) == 0);
          KTSTR_CHECK(unlink(path("renamed").c_str()) == 0);
        },
        [&](uint64_t n) {
          if (n == 3) {
            EXPECT_EQ(Exists(path("kept")), names_stay);
          }
          if (n < 5 || n > 7) return;
          EXPECT_EQ(*ReadFile(path("kept")), n > 5 ? written : "kept") << n;
          const bool renamed = n > 6 && names_stay;
          EXPECT_EQ(*ReadFile(path(renamed ? "renamed" : "old")), "old") << n;
        });
    EXPECT_EQ(steps, 7u);
  }
}

TEST(FileFaultsTest, AtomicWriteIsOldOrNewWhateverFails) {
  for (const Fault fault : kErrorFaults) {
    for (const bool lasting : {false, true}) {
      if (lasting && (Harmless(fault))) continue;
      SCOPED_TRACE(FaultName(fault));
      for (uint64_t n = 1;; ++n) {
        auto dir = *TempDir::Make("atomic");
        const std::string path = dir.path() + "/file";
        ASSERT_TRUE(WriteFileAtomic(path, OldText()).ok());
        absl::Status status;
        bool fired;
        {
          Faults faults(dir.path());
          faults.Arm(fault, n, lasting);
          status = WriteFileAtomic(path, NewText());
          fired = faults.fired();
        }
        const std::string text = *ReadFile(path);
        EXPECT_TRUE(text == NewText() || (!status.ok() && text == OldText())) << n << status;
        // The caller sees no error after EINTR or a short write.
        if (Harmless(fault)) {
          EXPECT_TRUE(status.ok()) << n << ": " << status;
        } else {
          EXPECT_EQ(status.ok(), !fired) << n;
        }
        if (!lasting) {
          EXPECT_EQ(ListDir(dir.path())->size(), 1u) << n;
        }
        if (!fired) {
          std::cout << FaultName(fault) << ": " << n - 1 << " steps\n";
          break;
        }
      }
    }
  }
}

TEST(FileFaultsTest, AtomicWriteIsOldOrNewWhereverItEnds) {
  for (const Fault fault : kEndFaults) {
    SCOPED_TRACE(FaultName(fault));
    std::optional<TempDir> dir;
    SharedFacts<bool> written;
    const auto path = [&] { return dir->path() + "/file"; };
    const uint64_t steps = EndAtEachStep(
        fault,
        [&](uint64_t) {
          dir.emplace(*TempDir::Make("atomic"));
          EXPECT_TRUE(WriteFileAtomic(path(), OldText()).ok());
          *written = false;
          return dir->path();
        },
        [&](uint64_t) {
          *written = WriteFileAtomic(path(), NewText()).ok();
          // One more step, so that one end comes after WriteFileAtomic has returned.
          (void)WriteFileAtomic(dir->path() + "/more", "").ok();
        },
        [&](uint64_t n) {
          const std::string text = ReadFile(path()).value_or("nothing");
          EXPECT_TRUE(text == NewText() || (!*written && text == OldText()))
              << n << ": " << text.size();
        });
    std::cout << FaultName(fault) << ": " << steps << " steps\n";
  }
}

// A call that is interrupted or moves less than it was asked is repeated; an error is returned.
TEST(FileFaultsTest, PiecesAreWholeOrAnError) {
  TempDir dir = *TempDir::Make("pieces");
  const std::string path = dir.path() + "/file";
  for (const Fault fault : kErrorFaults) {
    SCOPED_TRACE(FaultName(fault));
    bool fired = true;
    for (uint64_t n = 1; fired; ++n) {
      ASSERT_TRUE(WriteFileAtomic(path, "0123456789").ok());
      std::string read(6, '.');
      absl::Status written;
      absl::StatusOr<size_t> inside = 0, across = 0, beyond = 0;
      {
        Faults faults(dir.path());
        const UniqueFd fd = *Open(path, O_RDWR);
        faults.Arm(fault, n);
        written = WriteAt(fd.get(), "abc", 9, "f");
        inside = ReadAt(fd.get(), read.data(), 4, 3, "f");
        if (inside.ok()) {
          EXPECT_EQ(read, "3456..");
        }
        across = ReadAt(fd.get(), read.data(), 6, 8, "f");
        beyond = ReadAt(fd.get(), read.data(), 6, 12, "f");
        fired = faults.fired();
      }
      const bool all = written.ok() && inside.ok() && across.ok() && beyond.ok();
      EXPECT_EQ(all, Harmless(fault) || !fired) << n;
      if (!all) continue;
      EXPECT_EQ(*ReadFile(path), "012345678abc") << n;
      EXPECT_EQ(*inside, 4u) << n;
      EXPECT_EQ(*across, 4u) << n;
      EXPECT_EQ(read.substr(0, 4), "8abc") << n;
      EXPECT_EQ(*beyond, 0u) << n;
    }
  }
}

// A tree of directories that was reported as made is there after a power cut.
TEST(FileFaultsTest, MadeDirectoriesStay) {
  std::optional<TempDir> dir;
  SharedFacts<bool> made;
  const auto path = [&] { return dir->path() + "/a/b/c"; };
  EndAtEachStep(
      Fault::kPowerCut,
      [&](uint64_t) {
        dir.emplace(*TempDir::Make("dirs"));
        *made = false;
        return dir->path();
      },
      [&](uint64_t) {
        *made = MakeDirs(path()).ok();
        (void)WriteFileAtomic(dir->path() + "/more", "").ok();
      },
      [&](uint64_t n) {
        EXPECT_TRUE(!*made || Exists(path())) << n;
        EXPECT_TRUE(MakeDirs(path()).ok()) << n;
      });
}

}  // namespace
}  // namespace ktstr::base
