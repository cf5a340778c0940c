// SPDX-License-Identifier: Apache-2.0
//
// Each fault at each step of storing a blob, snapshot or kernel: acknowledged entries are there,
// and no store ever returns a damaged one. Prints the number of steps.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <optional>

#include "base/file.h"
#include "base/log.h"
#include "base/testing/fault_rounds.h"
#include "base/testing/faults.h"
#include "cache/blob_store.h"
#include "cache/kernel_cache.h"
#include "cache/snapshot_store.h"
#include "cache/test_kernel.h"

namespace ktstr::cache {
namespace {

using base::Fault;

// One kind of thing in a directory of its own.
struct Path {
  const char* name;
  // Stores the entry.
  std::function<absl::Status(const std::string& dir)> store;
  // OK for a sound entry; NotFound, or another error of a store that can make the entry again.
  std::function<absl::Status(const std::string& dir)> read;
  bool survives_power_cut;  // Else an entry may be lost, which the store notices.
};

void WithEachError(const Path& path) {
  const int struck = base::EachError(path.name, [&](Fault fault, bool lasting, uint64_t n) {
    const std::string where = base::Where(path.name, fault, n);
    auto dir = *base::TempDir::Make("durability");
    absl::Status stored;
    bool fired = false;
    {
      base::Faults faults(dir.path());
      faults.Arm(fault, n, lasting);
      stored = path.store(dir.path());
      fired = faults.fired();
    }
    absl::Status read = path.read(dir.path());
    EXPECT_TRUE(read.ok() || !stored.ok()) << where << ": " << read;
    EXPECT_TRUE(stored.ok() || fired) << where << ": " << stored;
    if (base::Harmless(fault)) {
      EXPECT_TRUE(stored.ok()) << where << ": " << stored;
    }
    // What failed once works the next time.
    if (!stored.ok()) {
      stored = path.store(dir.path());
      EXPECT_TRUE(stored.ok()) << where << ": " << stored;
      read = path.read(dir.path());
      EXPECT_TRUE(read.ok()) << where << ": " << read;
    }
    return fired;
  });
  EXPECT_EQ(struck, 8);
}

void WithEachEnd(const Path& path) {
  for (const Fault fault : base::kEndFaults) {
    std::optional<base::TempDir> dir;
    base::SharedFacts<bool> stored;
    const uint64_t steps = base::EndAtEachStep(
        fault,
        [&](uint64_t) {
          dir.emplace(*base::TempDir::Make("durability"));
          *stored = false;
          return dir->path();
        },
        [&](uint64_t) {
          *stored = path.store(dir->path()).ok();
          // One more step, so that one end comes after the store has returned.
          (void)base::WriteFileAtomic(dir->path() + "/after", "").ok();
        },
        [&](uint64_t n) {
          const std::string where = base::Where(path.name, fault, n);
          absl::Status read = path.read(dir->path());
          const bool promised = *stored && (fault == Fault::kKill || path.survives_power_cut);
          EXPECT_TRUE(read.ok() || !promised) << where << ": " << read;
          if (!read.ok()) {
            const absl::Status again = path.store(dir->path());
            EXPECT_TRUE(again.ok()) << where << ": " << again;
            read = path.read(dir->path());
            EXPECT_TRUE(read.ok()) << where << ": " << read;
          }
        });
    EXPECT_GT(steps, 1u);
    base::ReportSteps(path.name, fault, false, steps);
  }
}

Path Blob() {
  static const std::string content(300'000, 'b');
  static const std::string sha256 = base::Sha256Hex(content);
  return {"blob",
          [](const std::string& dir) -> absl::Status {
            auto store = BlobStore::Open(dir + "/blobs", 1 << 20);
            if (!store.ok()) return store.status();
            auto writer = (*store)->Begin(sha256, content.size());
            if (!writer.ok()) return writer.status();
            absl::Status status = (*writer)->Append(content);
            return status.ok() ? (*writer)->Commit() : status;
          },
          [](const std::string& dir) -> absl::Status {
            auto store = BlobStore::Open(dir + "/blobs", 1 << 20);
            if (!store.ok()) return store.status();
            auto fd = (*store)->OpenBlob(sha256);
            if (!fd.ok()) return fd.status();
            EXPECT_EQ(*base::ReadFd(fd->get(), "blob", 1 << 20), content);
            EXPECT_TRUE(base::ListDir(dir + "/blobs/.tmp")->empty());
            return absl::OkStatus();
          },
          true};
}

Path Snapshot() {
  static const std::string state(5000, 's');
  static const std::string page(8192, 'p');
  return {"snapshot",
          [](const std::string& dir) -> absl::Status {
            auto state_fd = *base::MakeMemfd("state", 0);
            auto ram = *base::MakeMemfd("ram", 1 << 20);
            KTSTR_CHECK(base::WriteAll(state_fd.get(), state, "state").ok());
            KTSTR_CHECK(pwrite(ram.get(), page.data(), page.size(), 4096) == 8192);
            SnapshotStore store(dir + "/snapshots", 64 << 20);
            // The second one takes the first one's place.
            const SnapshotInfo info = {"machine", "label", std::nullopt, 1000};
            absl::Status stored = store.Store(info, state_fd.get(), {ram.get()});
            return stored.ok() ? store.Store(info, state_fd.get(), {ram.get()}) : stored;
          },
          [](const std::string& dir) -> absl::Status {
            SnapshotStore store(dir + "/snapshots", 64 << 20);
            auto files = store.Load("machine");
            if (!files.ok()) return files.status();
            EXPECT_EQ(
                *base::ReadFd(base::Reopen(files->state.get(), "state")->get(), "state", 1 << 20),
                state);
            std::string ram(1 << 20, '\0');
            std::string expected = ram;
            expected.replace(4096, page.size(), page);
            EXPECT_EQ(pread(files->ram[0].get(), ram.data(), ram.size(), 0), 1 << 20);
            EXPECT_TRUE(ram == expected);
            return absl::OkStatus();
          },
          false};
}

const std::string& KernelImageFile() {
  static const std::string image =
      MakeBzImage(Pack(Compression::kZstd, MakeVmlinux({.build_id = "durable"})));
  return image;
}

Path Kernel() {
  return {"kernel",
          [](const std::string& dir) -> absl::Status {
            auto cache = KernelCache::Open(dir);
            if (!cache.ok()) return cache.status();
            const base::UniqueFd file = FdOf(KernelImageFile());
            return (*cache)->Import({{file.get(), "vmlinuz"}}, "CONFIG_SMP=y\n", getuid()).status();
          },
          [](const std::string& dir) -> absl::Status {
            auto cache = KernelCache::Open(dir);
            if (!cache.ok()) return cache.status();
            // Every entry is sound: List reports none as corrupt.
            const auto entries = (*cache)->List();
            EXPECT_TRUE(entries.ok()) << entries.status();
            for (const v1::KernelEntry& entry : *entries) EXPECT_EQ(entry.error(), "");
            EXPECT_TRUE(base::ListDir(dir + "/.tmp")->empty());
            return (*cache)->Resolve("", true).status();
          },
          true};
}

// Its configuration comes in a second import.
Path KernelConfig() {
  Path path = Kernel();
  path.name = "configuration";
  path.store = [](const std::string& dir) -> absl::Status {
    auto cache = KernelCache::Open(dir);
    if (!cache.ok()) return cache.status();
    const base::UniqueFd file = FdOf(KernelImageFile());
    for (const char* config : {"", "CONFIG_SMP=y\n"}) {
      if (absl::Status imported =
              (*cache)->Import({{file.get(), "vmlinuz"}}, config, getuid()).status();
          !imported.ok()) {
        return imported;
      }
    }
    return absl::OkStatus();
  };
  path.read = [whole = path.read](const std::string& dir) -> absl::Status {
    if (absl::Status kernel = whole(dir); !kernel.ok()) return kernel;
    const auto entries = (*KernelCache::Open(dir))->List();
    if (!entries->front().has_config()) return absl::NotFoundError("no configuration");
    EXPECT_EQ(*base::ReadFile(dir + "/kernels/" + entries->front().metadata().key() + "/config"),
              "CONFIG_SMP=y\n");
    return absl::OkStatus();
  };
  return path;
}

TEST(DurabilityTest, BlobWithEachError) { WithEachError(Blob()); }
TEST(DurabilityTest, BlobThatEndsAtEachStep) { WithEachEnd(Blob()); }
TEST(DurabilityTest, SnapshotWithEachError) { WithEachError(Snapshot()); }
TEST(DurabilityTest, SnapshotThatEndsAtEachStep) { WithEachEnd(Snapshot()); }
// An error of the moment takes no snapshot away, neither from its reader nor from whoever replaces
// it.
TEST(DurabilityTest, SnapshotOutlivesErrorsOfItsReadersAndWriters) {
  const Path path = Snapshot();
  for (const bool writes : {false, true}) {
    const int struck = base::EachError(
        writes ? "replaced snapshot" : "read snapshot", [&](Fault fault, bool lasting, uint64_t n) {
          // A rename that fails for good cannot be undone either.
          if (writes && lasting) return false;
          auto dir = *base::TempDir::Make("durability");
          EXPECT_TRUE(path.store(dir.path()).ok());
          bool fired = false;
          absl::Status first;
          {
            base::Faults faults(dir.path());
            faults.Arm(fault, n, lasting);
            first = (writes ? path.store : path.read)(dir.path());
            fired = faults.fired();
          }
          const absl::Status read = path.read(dir.path());
          EXPECT_TRUE(read.ok()) << base::Where(path.name, fault, n)
                                 << (lasting ? " from there on" : "")
                                 << (writes ? ", replaced" : ", read") << ": " << read
                                 << "; before: " << first;
          return fired;
        });
    // Of a writer's rounds, those of the three errors that pass.
    EXPECT_GE(struck, writes ? 3 : 4);
  }
}

TEST(DurabilityTest, KernelWithEachError) { WithEachError(Kernel()); }
TEST(DurabilityTest, KernelThatEndsAtEachStep) { WithEachEnd(Kernel()); }
TEST(DurabilityTest, ConfigurationWithEachError) { WithEachError(KernelConfig()); }
TEST(DurabilityTest, ConfigurationThatEndsAtEachStep) { WithEachEnd(KernelConfig()); }

}  // namespace
}  // namespace ktstr::cache
