// SPDX-License-Identifier: Apache-2.0
// guest_memory.h and digest.h
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "gtest/gtest.h"
#include "vmm/digest.h"
#include "vmm/guest_memory.h"

namespace ktstr::vmm {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::unique_ptr<GuestMemory> Make(std::vector<uint64_t> sizes) {
  auto memory = GuestMemory::Create(sizes);
  EXPECT_TRUE(memory.ok()) << memory.status();
  return *std::move(memory);
}

void Put(GuestMemory& memory, uint64_t offset, uint8_t value) {
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
}

TEST(GuestMemory, SizesAreChecked) {
  EXPECT_FALSE(GuestMemory::Create({}).ok());
  EXPECT_FALSE(GuestMemory::Create({0}).ok());
  EXPECT_FALSE(GuestMemory::Create({4097}).ok());
}

TEST(GuestMemory, NodesLieSideBySideAndShareTheirFile) {
  auto memory = Make({2 * kMiB, 2 * kMiB});
  ASSERT_EQ(memory->segments().size(), 2u);
  EXPECT_EQ(memory->segments()[1].offset, 2 * kMiB);
  Put(*memory, 2 * kMiB + 5, 9);
  uint8_t seen = 0;
  ASSERT_EQ(pread(memory->segments()[1].memfd.get(), &seen, 1, 5), 1);
  EXPECT_EQ(seen, 9);
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
