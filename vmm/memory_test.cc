// SPDX-License-Identifier: Apache-2.0
// guest_memory.h, private_memory.h and digest.h
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/subprocess.h"
#include "gtest/gtest.h"
#include "vmm/digest.h"
#include "vmm/guest_memory.h"
#include "vmm/private_memory.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::unique_ptr<SharedMemory> Make(const std::vector<uint64_t>& sizes) {
  auto memory = SharedMemory::Create(sizes);
  EXPECT_TRUE(memory.ok()) << memory.status();
  return *std::move(memory);
}

void Put(SharedMemory& memory, uint64_t offset, uint8_t value) {
  (*memory.At(offset, 1))[0] = value;
}

TEST(GuestMemory, BoundsAreChecked) {
  auto memory = Make({2 * kMiB, 4 * kMiB});
  EXPECT_EQ(memory->size(), 6 * kMiB);
  EXPECT_TRUE(memory->At(0, 6 * kMiB).ok());
  EXPECT_TRUE(memory->At(6 * kMiB, 0).ok());
  EXPECT_TRUE(absl::IsOutOfRange(memory->At(6 * kMiB, 1).status()));
  EXPECT_TRUE(absl::IsOutOfRange(memory->At(1, 6 * kMiB).status()));
  EXPECT_TRUE(absl::IsOutOfRange(memory->At(~uint64_t{0}, 2).status()));
  EXPECT_TRUE(absl::IsOutOfRange(memory->At(2, ~uint64_t{0}).status()));
  uint8_t byte = 0;
  EXPECT_TRUE(memory->Read(6 * kMiB - 1, &byte, 1).ok());
  EXPECT_TRUE(absl::IsOutOfRange(memory->Read(6 * kMiB, &byte, 1)));
  EXPECT_TRUE(absl::IsOutOfRange(memory->Write(~uint64_t{0}, &byte, 2)));
}

TEST(GuestMemory, SizesAreChecked) {
  EXPECT_FALSE(SharedMemory::Create({}).ok());
  EXPECT_FALSE(SharedMemory::Create({0}).ok());
  EXPECT_FALSE(SharedMemory::Create({4097}).ok());
}

TEST(GuestMemory, NodesLieSideBySideAndShareTheirFile) {
  auto memory = Make({2 * kMiB, 2 * kMiB});
  ASSERT_EQ(memory->files().size(), 2u);
  Put(*memory, 2 * kMiB + 5, 9);
  uint8_t seen = 0;
  ASSERT_EQ(pread(memory->files()[1].get(), &seen, 1, 5), 1);
  EXPECT_EQ(seen, 9);
}

// The memory of a restored guest, with a child of this test in the place of the engine.
class PrivateMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto original = Make({2 * kMiB, 4 * kMiB});
    Put(*original, 5, 1);
    Put(*original, 3 * kMiB, 2);
    files_ = original->Release();
    for (const base::UniqueFd& file : files_) ASSERT_TRUE(base::SealMemfd(file.get(), "x").ok());
  }
  // `flags` of the child's mappings. The child writes 7 at 4096 of the second file.
  void StartEngine(int flags) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      for (const base::UniqueFd& file : files_) {
        struct stat info;
        fstat(file.get(), &info);
        const int prot = PROT_READ | ((flags & MAP_PRIVATE) != 0 ? PROT_WRITE : 0);
        void* at = mmap(nullptr, static_cast<size_t>(info.st_size), prot, flags, file.get(), 0);
        if (at == MAP_FAILED) _exit(1);
        if (&file == &files_[1] && (flags & MAP_PRIVATE) != 0) static_cast<char*>(at)[4096] = 7;
      }
      if (write(ready[1], "r", 1) != 1) _exit(1);
      pause();
      _exit(0);
    }
    char byte;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    engine_ = std::make_shared<base::Child>(*base::Child::Adopt(pid));
  }

  std::vector<base::UniqueFd> files_;
  std::shared_ptr<base::Child> engine_;
};

TEST_F(PrivateMemoryTest, IsWhatTheEngineSees) {
  StartEngine(MAP_PRIVATE);
  auto memory = PrivateMemory::Create(engine_, files_);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ((*memory)->size(), 6 * kMiB);
  uint8_t byte = 0;
  ASSERT_TRUE((*memory)->Read(2 * kMiB + 4096, &byte, 1).ok());
  EXPECT_EQ(byte, 7);
  ASSERT_TRUE((*memory)->Read(3 * kMiB, &byte, 1).ok());
  EXPECT_EQ(byte, 2);
  const uint64_t word = 0x1122334455667788;
  uint64_t seen = 0;
  ASSERT_TRUE((*memory)->Write(8192, &word, sizeof(word)).ok());
  ASSERT_TRUE((*memory)->Read(8192, &seen, sizeof(seen)).ok());
  EXPECT_EQ(seen, word);
  // Across the nodes' border.
  std::vector<uint8_t> bytes(8192, 9);
  ASSERT_TRUE((*memory)->Write(2 * kMiB - 4096, bytes.data(), 4096 + 100).ok());
  ASSERT_TRUE((*memory)->Read(2 * kMiB + 99, &byte, 1).ok());
  EXPECT_EQ(byte, 9);
  // The snapshot is as it was.
  ASSERT_EQ(pread(files_[0].get(), &seen, sizeof(seen), 8192), 8);
  EXPECT_EQ(seen, 0u);
}

TEST_F(PrivateMemoryTest, DigestIsThatOfTheSameBytes) {
  StartEngine(MAP_PRIVATE);
  auto memory = *PrivateMemory::Create(engine_, files_);
  auto same = *SharedMemory::CopyOf(files_);
  EXPECT_NE(*DigestOf(*memory), *DigestOf(*same));
  Put(*same, 2 * kMiB + 4096, 7);
  EXPECT_EQ(*DigestOf(*memory), *DigestOf(*same));
  const uint8_t byte = 3;
  ASSERT_TRUE(memory->Write(kMiB, &byte, 1).ok());
  EXPECT_NE(*DigestOf(*memory), *DigestOf(*same));
}

TEST_F(PrivateMemoryTest, OtherMappingsAreRefused) {
  StartEngine(MAP_SHARED);
  EXPECT_TRUE(absl::IsFailedPrecondition(PrivateMemory::Create(engine_, files_).status()));
}

TEST_F(PrivateMemoryTest, MissingMappingsAreRefused) {
  auto idle = std::make_shared<base::Child>(*base::Spawn({.argv = {"sleep", "1000"}}));
  EXPECT_TRUE(absl::IsFailedPrecondition(PrivateMemory::Create(idle, files_).status()));
}

// The pid stays the engine's until the last reader is gone: no other process gets it meanwhile.
TEST_F(PrivateMemoryTest, EngineThatIsGone) {
  StartEngine(MAP_PRIVATE);
  auto memory = *PrivateMemory::Create(engine_, files_);
  const pid_t pid = engine_->pid();
  engine_->Kill(SIGKILL);
  ASSERT_TRUE(engine_->Wait(absl::Seconds(30)).has_value());
  engine_.reset();
  uint64_t word = 0;
  EXPECT_TRUE(absl::IsUnavailable(memory->Read(0, &word, sizeof(word))));
  EXPECT_TRUE(absl::IsUnavailable(memory->Write(0, &word, sizeof(word))));
  EXPECT_FALSE(memory->Extents().ok());
  EXPECT_EQ(kill(pid, 0), 0);
  memory.reset();
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), -1);  // Reaped.
}

// Lines as the kernel prints them: one inode number on several devices, memfds, deleted files, and
// mappings of no file.
constexpr char kMaps[] =
    "10000000-10200000 rw-p 00000000 00:2a 1027                       /tmp/other\n"
    "20000000-20100000 rw-p 00000000 00:01 1027                       /memfd:ktstr-guest-ram "
    "(deleted)\n"
    "20100000-20200000 r--p 00100000 00:01 1027                       /memfd:ktstr-guest-ram "
    "(deleted)\n"
    "30000000-30200000 rw-s 00000000 103:02 1027                      /data/x (deleted)\n"
    "40000000-40200000 rw-p 00000000 00:00 0 \n"
    "7ffd0000-7ffd2000 rw-p 00000000 00:00 0                          [stack]\n";

TEST(FindMapping, AFileIsItsDeviceAndItsInode) {
  auto found = FindMapping(kMaps, {"00:01", 1027}, 2 * kMiB);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, 0x20000000u);
  found = FindMapping(kMaps, {"00:2a", 1027}, 2 * kMiB);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, 0x10000000u);
}

TEST(FindMapping, OthersAreRefused) {
  // Not there, shared, cut short, mapped twice.
  for (const MappedFile& file : {MappedFile{"00:02", 1027}, MappedFile{"103:02", 1027}}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(FindMapping(kMaps, file, 2 * kMiB).status()));
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(FindMapping(kMaps, {"00:01", 1027}, 4 * kMiB).status()));
  const std::string twice = absl::StrCat(kMaps, kMaps);
  EXPECT_TRUE(absl::IsFailedPrecondition(FindMapping(twice, {"00:2a", 1027}, 2 * kMiB).status()));
}

// For memfds, and for a file in the directory of this test, which may be on an overlay or a
// subvolume, where st_dev is another number.
TEST(ShownInMaps, IsWhatTheKernelPrints) {
  const base::TempDir dir = *base::TempDir::Make("maps");
  const std::string path = dir.path() + "/file";
  ASSERT_TRUE(base::WriteFileAtomic(path, std::string(8192, 'x'), 0600).ok());
  const base::UniqueFd fds[] = {*base::MakeMemfd("one", 8192), *base::MakeMemfd("two", 8192),
                                *base::Open(path, O_RDONLY)};
  for (const base::UniqueFd& fd : fds) {
    auto shown = ShownInMaps(fd.get());
    ASSERT_TRUE(shown.ok()) << shown.status();
    void* at = mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    auto found = FindMapping(*base::ReadFile("/proc/self/maps"), *shown, 8192);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(*found, reinterpret_cast<uint64_t>(at));
    munmap(at, 8192);
  }
  EXPECT_FALSE(ShownInMaps(-1).ok());
}

TEST(Digest, HoleAndZeroPageAreEqual) {
  auto holes = Make({2 * kMiB});
  auto zeros = Make({2 * kMiB});
  std::memset(zeros->At(0, kMiB)->data(), 0, kMiB);
  EXPECT_EQ(*DigestOf(*holes), *DigestOf(*zeros));
}

TEST(Digest, DependsOnContentAndPlace) {
  auto a = Make({2 * kMiB});
  auto b = Make({2 * kMiB});
  auto c = Make({2 * kMiB});
  auto again = Make({2 * kMiB});
  Put(*a, 4096, 1);
  Put(*again, 4096, 1);
  Put(*again, 8192, 1);
  Put(*again, 8192, 0);
  Put(*b, 4096, 2);
  Put(*c, 8192, 1);
  EXPECT_EQ(*DigestOf(*a), *DigestOf(*again));
  EXPECT_NE(*DigestOf(*a), *DigestOf(*b));
  EXPECT_NE(*DigestOf(*a), *DigestOf(*c));
  EXPECT_EQ(DigestOf(*a)->size(), 64u);
}

TEST(Digest, BlocksOfZerosDoNotCount) {
  auto a = Make({16 * kMiB});
  auto b = Make({16 * kMiB});
  Put(*a, 9 * kMiB, 1);
  Put(*b, 9 * kMiB, 1);
  std::memset(b->At(0, 5 * kMiB)->data(), 0, 5 * kMiB);
  EXPECT_EQ(*DigestOf(*a), *DigestOf(*b));
  Put(*b, 13 * kMiB, 1);
  EXPECT_NE(*DigestOf(*a), *DigestOf(*b));
}

// Fixes the definition: after an unnoticed change, digests of two builds could not be compared.
TEST(Digest, OfAKnownMemory) {
  auto memory = Make({16 * kMiB});
  Put(*memory, 4096, 1);
  Put(*memory, 9 * kMiB, 2);
  std::string text;
  for (const auto& [block, page, byte] : {std::tuple{0, 1, '\1'}, std::tuple{2, 9 * 256, '\2'}}) {
    std::string one(8 + 4096, '\0');
    one[0] = static_cast<char>(page & 255);
    one[1] = static_cast<char>(page >> 8);
    one[8] = byte;
    absl::StrAppend(&text, block, " ", base::Sha256Hex(one), "\n");
  }
  EXPECT_EQ(*DigestOf(*memory), base::Sha256Hex(text));
}

TEST(Digest, SeesTheLastByteOfEachNode) {
  auto a = Make({2 * kMiB, 2 * kMiB});
  const std::string empty = *DigestOf(*a);
  Put(*a, 2 * kMiB - 1, 1);
  const std::string first = *DigestOf(*a);
  Put(*a, 4 * kMiB - 1, 1);
  EXPECT_NE(first, empty);
  EXPECT_NE(*DigestOf(*a), first);
}

}  // namespace
}  // namespace ktstr::vmm
