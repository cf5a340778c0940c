// SPDX-License-Identifier: Apache-2.0
#include "vmm/descriptors.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "base/file_size.h"
#include "base/seqpacket.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<base::UniqueFd> Files(int count) {
  std::vector<base::UniqueFd> files;
  for (int i = 0; i < count; ++i) files.push_back(*base::MakeMemfd("file", 1000 + i));
  return files;
}

v1::VmRequest Request(const std::vector<std::string>& names) {
  v1::VmRequest request;
  for (const std::string& name : names) request.add_descriptors(name);
  return request;
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

TEST(Descriptors, TravelByName) {
  auto pair = *base::MakeSeqpacketPair();
  const std::vector<base::UniqueFd> files = Files(2);
  ASSERT_TRUE(
      SendMessage(pair.first.get(), v1::VmRequest(), {{"b", files[1].get()}, {"a", files[0].get()}})
          .ok());
  auto packet = base::ReceivePacket(pair.second.get(), absl::Seconds(30));
  ASSERT_TRUE(packet.ok()) << packet.status();
  v1::VmRequest request;
  ASSERT_TRUE(request.ParseFromString(packet->data));
  EXPECT_THAT(request.descriptors(), ElementsAre("b", "a"));
  auto descriptors = Descriptors::Of(request, std::move(packet->fds));
  ASSERT_TRUE(descriptors.ok()) << descriptors.status();
  EXPECT_TRUE(descriptors->Has("a"));
  EXPECT_EQ(*base::SizeOf(descriptors->Take("a")->get(), "a"), 1000u);
  EXPECT_EQ(*base::SizeOf(descriptors->Take("b")->get(), "b"), 1001u);
  EXPECT_TRUE(descriptors->ExpectNoMore().ok());
}

TEST(Descriptors, MissingOnes) {
  auto descriptors = *Descriptors::Of(Request({"a"}), Files(1));
  EXPECT_EQ(Text(descriptors.Take("b").status()), "descriptor \"b\" is missing");
  EXPECT_TRUE(descriptors.Take("a").ok());
  EXPECT_EQ(Text(descriptors.Take("a").status()), "descriptor \"a\" is missing");
}

TEST(Descriptors, UnknownOnes) {
  auto descriptors = *Descriptors::Of(Request({"x", "a", "y"}), Files(3));
  EXPECT_TRUE(descriptors.Take("a").ok());
  EXPECT_EQ(Text(descriptors.ExpectNoMore()), "unknown descriptors: \"x\", \"y\"");
}

TEST(Descriptors, DuplicateOnes) {
  EXPECT_EQ(Text(Descriptors::Of(Request({"a", "a"}), Files(2)).status()),
            "descriptor \"a\" comes twice");
  auto pair = *base::MakeSeqpacketPair();
  EXPECT_TRUE(
      absl::IsInvalidArgument(SendMessage(pair.first.get(), v1::VmEvent(), {{"a", 0}, {"a", 1}})));
}

TEST(Descriptors, AsManyAsNames) {
  EXPECT_THAT(Text(Descriptors::Of(Request({"a"}), Files(2)).status()),
              HasSubstr("came with 2 descriptors, but names 1"));
  EXPECT_FALSE(Descriptors::Of(Request({"a"}), {}).ok());
  EXPECT_TRUE(Descriptors::Of(v1::VmEvent(), {}).ok());
}

}  // namespace
}  // namespace ktstr::vmm
