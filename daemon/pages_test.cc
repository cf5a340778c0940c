// SPDX-License-Identifier: Apache-2.0
#include "daemon/pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ktstr::daemon {
namespace {

using testing::HasSubstr;

std::vector<v1::SnapshotEntry> Entries(int count, size_t label_bytes = 1) {
  std::vector<v1::SnapshotEntry> entries;
  for (int i = 0; i < count; ++i) {
    v1::SnapshotEntry& entry = entries.emplace_back();
    entry.set_key(absl::StrCat("key", i));
    entry.set_label(std::string(label_bytes, 'l'));
  }
  return entries;
}

absl::StatusOr<Page<v1::SnapshotEntry>> PageOfEntries(std::vector<v1::SnapshotEntry> all,
                                                      int32_t size, const std::string& token) {
  return PageOf(std::move(all), size, token,
                [](const v1::SnapshotEntry& entry) { return entry.key(); });
}

// Sizes of all pages, read one after the other.
std::vector<size_t> Sizes(const std::vector<v1::SnapshotEntry>& all, int32_t size) {
  std::vector<size_t> sizes;
  std::string token;
  int next = 0;
  do {
    const auto page = *PageOfEntries(all, size, token);
    sizes.push_back(page.entries.size());
    for (const v1::SnapshotEntry& entry : page.entries)
      EXPECT_EQ(entry.key(), absl::StrCat("key", next++));
    token = page.next_token;
  } while (!token.empty() && sizes.size() < 100);
  EXPECT_EQ(next, static_cast<int>(all.size()));
  return sizes;
}

TEST(Pages, HoldEveryEntryOnce) {
  EXPECT_THAT(Sizes(Entries(0), 3), testing::ElementsAre(0));
  EXPECT_THAT(Sizes(Entries(3), 3), testing::ElementsAre(3));
  EXPECT_THAT(Sizes(Entries(7), 3), testing::ElementsAre(3, 3, 1));
}

TEST(Pages, SizesHaveADefaultAndAMost) {
  EXPECT_THAT(Sizes(Entries(101), 0), testing::ElementsAre(100, 1));
  EXPECT_THAT(Sizes(Entries(1001), 1'000'000), testing::ElementsAre(1000, 1));
  const absl::Status negative = PageOfEntries(Entries(1), -1, "").status();
  EXPECT_EQ(negative.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(negative.message()), HasSubstr("page_size: -1"));
}

TEST(Pages, EndBeforeTheyAreTooLarge) {
  EXPECT_THAT(Sizes(Entries(5, size_t{600} << 10), 100), testing::ElementsAre(2, 2, 1));
  EXPECT_THAT(Sizes(Entries(2, size_t{2} << 20), 100), testing::ElementsAre(1, 1));
}

TEST(Pages, AListThatChangedIsReadAgain) {
  EXPECT_EQ(PageOfEntries(Entries(2), 1, "gone").status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(PageOfEntries(Entries(2), 1, "key1")->entries.size(), 0u);
}

TEST(Pages, PiecesMakeTheMessage) {
  for (const size_t bytes : {size_t{0}, size_t{10}, size_t{1} << 20, (size_t{3} << 20) + 17}) {
    v1::SnapshotEntry entry;
    entry.set_label(std::string(bytes, 'x'));
    std::string all;
    int last = 0;
    EXPECT_TRUE(SendPieces(entry, [&](const v1::Piece& piece) {
      EXPECT_LE(piece.data().size(), size_t{1} << 20);
      EXPECT_EQ(last, 0);
      last += piece.last();
      all += piece.data();
      return true;
    }));
    EXPECT_EQ(last, 1);
    EXPECT_EQ(all, entry.SerializeAsString());
  }
  v1::SnapshotEntry large;
  large.set_label(std::string(size_t{3} << 20, 'x'));
  int sent = 0;
  EXPECT_FALSE(SendPieces(large, [&](const v1::Piece&) { return ++sent < 2; }));
  EXPECT_EQ(sent, 2);
}

}  // namespace
}  // namespace ktstr::daemon
