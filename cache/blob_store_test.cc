// SPDX-License-Identifier: Apache-2.0
#include "cache/blob_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "base/file.h"

namespace ktstr::cache {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class BlobStoreTest : public ::testing::Test {
 protected:
  BlobStoreTest() : temp_(*base::TempDir::Make("ktstr-blob-test")), dir_(temp_.path() + "/blobs") {
    Reopen(100);
  }
  void Reopen(uint64_t budget) {
    store_.reset();
    auto store = BlobStore::Open(dir_, budget, &clock_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  absl::Status Put(const std::string& data) {
    auto writer = store_->Begin(base::Sha256Hex(data), data.size());
    if (!writer.ok()) return writer.status();
    size_t half = data.size() / 2;
    if (absl::Status s = (*writer)->Append(data.substr(0, half)); !s.ok()) return s;
    if (absl::Status s = (*writer)->Append(data.substr(half)); !s.ok()) return s;
    return (*writer)->Commit();
  }
  std::string Get(const std::string& data) {
    absl::StatusOr<base::UniqueFd> fd = store_->OpenBlob(base::Sha256Hex(data));
    return fd.ok() ? *base::ReadFd(fd->get(), "blob", 1000) : std::string(fd.status().message());
  }
  bool Has(const std::string& data) { return store_->FindMissing({base::Sha256Hex(data)}).empty(); }
  std::vector<std::string> Temporaries() { return *base::ListDir(dir_ + "/.tmp"); }

  void GraceEnds() { clock_.Advance(kBlobGrace); }

  base::FakeClock clock_{absl::Now()};
  base::TempDir temp_;
  const std::string dir_;
  std::unique_ptr<BlobStore> store_;
};

TEST_F(BlobStoreTest, PutAndGet) {
  const std::string hello = base::Sha256Hex("hello");
  EXPECT_THAT(store_->FindMissing({hello, "nonsense", hello}), ElementsAre(hello, "nonsense"));
  ASSERT_TRUE(Put("hello").ok());
  ASSERT_TRUE(Put("").ok());
  EXPECT_THAT(store_->FindMissing({hello}), IsEmpty());
  EXPECT_EQ(Get("hello"), "hello");
  EXPECT_EQ(Get(""), "");
  EXPECT_THAT(Get("other"), HasSubstr("is not in the store"));
  ASSERT_TRUE(Put("hello").ok());  // Storing it twice is no error.
  Reopen(100);
  EXPECT_EQ(Get("hello"), "hello");
}

TEST_F(BlobStoreTest, WrongContentIsRefusedAndLeavesNothing) {
  const std::string sha = base::Sha256Hex("right");
  {
    auto writer = store_->Begin(sha, 5);
    ASSERT_TRUE((*writer)->Append("wrong").ok());
    EXPECT_THAT(std::string((*writer)->Commit().message()), HasSubstr("the content has SHA-256"));
  }
  {
    auto writer = store_->Begin(sha, 5);
    EXPECT_TRUE(absl::IsInvalidArgument((*writer)->Append("right and more")));
    ASSERT_TRUE((*writer)->Append("rig").ok());
    EXPECT_THAT(std::string((*writer)->Commit().message()), HasSubstr("3 of 5 bytes"));
  }
  EXPECT_FALSE(Has("right"));
  EXPECT_THAT(Temporaries(), IsEmpty());
  for (const char* bad : {"", "../../etc/passwd", "ABC"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store_->Begin(bad, 1).status())) << bad;
  }
}

TEST_F(BlobStoreTest, AbandonedWriters) {
  {
    auto writer = store_->Begin(base::Sha256Hex("x"), 90);
    ASSERT_TRUE((*writer)->Append("half").ok());
    EXPECT_THAT(Temporaries().size(), 1u);
    // Announced bytes count against the budget.
    EXPECT_TRUE(absl::IsResourceExhausted(store_->Begin(base::Sha256Hex("y"), 20).status()));
  }
  EXPECT_THAT(Temporaries(), IsEmpty());
  EXPECT_TRUE(store_->Begin(base::Sha256Hex("y"), 20).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(store_->Begin(base::Sha256Hex("y"), 101).status()));
  EXPECT_TRUE(
      absl::IsResourceExhausted(store_->Begin(base::Sha256Hex("y"), ~uint64_t{0}).status()));
  // The state after kill -9.
  ASSERT_TRUE(base::WriteFileAtomic(dir_ + "/.tmp/blob.dead", "half").ok());
  Reopen(100);
  EXPECT_THAT(Temporaries(), IsEmpty());
}

TEST_F(BlobStoreTest, LeastRecentlyUsedGoes) {
  const std::string a(40, 'a'), b(40, 'b'), c(40, 'c'), d(40, 'd');
  ASSERT_TRUE(Put(a).ok());
  ASSERT_TRUE(Put(b).ok());
  absl::StatusOr<base::UniqueFd> held = store_->OpenBlob(base::Sha256Hex(b));
  ASSERT_TRUE(held.ok());
  EXPECT_TRUE(Has(a));  // Counts as a use.
  GraceEnds();
  ASSERT_TRUE(Put(c).ok());
  EXPECT_FALSE(Has(b));
  EXPECT_EQ(*base::ReadFd(held->get(), "b", 1000), b);
  EXPECT_TRUE(Has(c));
  EXPECT_TRUE(Has(a));
  // The order survives a restart; a smaller budget applies from the next blob on.
  GraceEnds();
  Reopen(50);
  ASSERT_TRUE(Put("d").ok());
  EXPECT_TRUE(Has(a));
  EXPECT_FALSE(Has(c));
  EXPECT_EQ(base::ListDir(dir_)->size(), 3u);  // .tmp, a and "d".
}

TEST_F(BlobStoreTest, WhatWasFoundOrStoredStaysForTenMinutes) {
  const absl::Duration kPromised = absl::Minutes(10);  // By service.proto.
  const std::string a(60, 'a'), b(60, 'b');
  ASSERT_TRUE(Put(a).ok());
  clock_.Advance(kPromised - absl::Nanoseconds(1));
  absl::Status full = Put(b);
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("60 were used within the last 10m"));
  EXPECT_TRUE(Has(a));
  clock_.Advance(kPromised - absl::Nanoseconds(1));
  EXPECT_TRUE(absl::IsResourceExhausted(Put(b)));
  // The time of the file keeps this across a restart.
  Reopen(100);
  EXPECT_TRUE(absl::IsResourceExhausted(Put(b)));
  clock_.Advance(absl::Microseconds(1));
  EXPECT_TRUE(Put(b).ok());
  EXPECT_FALSE(Has(a));
}

TEST_F(BlobStoreTest, HeldBlobsStay) {
  const std::string a(30, 'a'), b(30, 'b'), c(60, 'c');
  const std::string name_a = base::Sha256Hex(a), name_b = base::Sha256Hex(b);
  ASSERT_TRUE(Put(a).ok());
  ASSERT_TRUE(Put(b).ok());
  const std::string nowhere = base::Sha256Hex("nowhere");
  auto none = store_->Hold({name_a, nowhere});
  EXPECT_TRUE(absl::IsNotFound(none.status()));
  EXPECT_THAT(std::string(none.status().message()), HasSubstr(nowhere));
  auto one = store_->Hold({name_a, name_a, name_b});
  auto two = store_->Hold({name_a});
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_THAT((*one)->sizes(), ElementsAre(std::pair(name_a, 30u), std::pair(name_b, 30u)));
  GraceEnds();
  absl::Status full = Put(c);
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("queued and running runs hold 60, 0 were"));
  EXPECT_TRUE(base::Exists(dir_ + "/" + name_b));  // A blob that does not fit evicts nothing.
  one->reset();
  ASSERT_TRUE(Put(c).ok());  // Evicts b; a is still held.
  EXPECT_TRUE(Has(a));
  EXPECT_FALSE(Has(b));
  // A restart evicts nothing, so that holds can be taken again; a hold may outlive its store.
  Reopen(30);
  EXPECT_TRUE(Has(a));
  EXPECT_TRUE(Has(c));
}

TEST_F(BlobStoreTest, AFileThatVanishedIsMissing) {
  ASSERT_TRUE(Put("hello").ok());
  ASSERT_EQ(unlink((dir_ + "/" + base::Sha256Hex("hello")).c_str()), 0);
  EXPECT_FALSE(Has("hello"));
  ASSERT_TRUE(Put("hello").ok());
  EXPECT_EQ(Get("hello"), "hello");
}

TEST_F(BlobStoreTest, ManyThreads) {
  Reopen(200);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this, i] {
      for (int j = 0; j < 50; ++j) {
        std::string data = absl::StrCat("blob ", (i + j) % 6, std::string(30, 'x'));
        // Other threads may fill the budget or evict the blob, but the content must be right.
        Put(data).IgnoreError();
        absl::StatusOr<base::UniqueFd> fd = store_->OpenBlob(base::Sha256Hex(data));
        if (fd.ok()) {
          EXPECT_EQ(*base::ReadFd(fd->get(), "blob", 1000), data);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Temporaries(), IsEmpty());
}

TEST_F(BlobStoreTest, WriterOutlivesTheStore) {
  auto writer = store_->Begin(base::Sha256Hex("hello"), 5);
  store_.reset();
  ASSERT_TRUE((*writer)->Append("hello").ok());
  ASSERT_TRUE((*writer)->Commit().ok());
}

}  // namespace
}  // namespace ktstr::cache
