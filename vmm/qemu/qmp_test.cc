// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/qmp.h"

#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::vmm::qemu {
namespace {

class QmpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    engine_.Reset(pair[0]);
    client_.emplace(*QmpClient::Create(base::UniqueFd(pair[1])));
  }
  void Say(const std::string& text) {
    ASSERT_TRUE(base::WriteAll(engine_.get(), text, "engine").ok());
  }
  base::UniqueFd engine_;
  std::optional<QmpClient> client_;
};

TEST_F(QmpTest, MessagesInPieces) {
  EXPECT_FALSE((*client_->Next()).has_value());
  Say("{\"QMP\": {\"version\": {}}}\r\n{\"return\"");
  EXPECT_EQ((*client_->Next())->kind, QmpMessage::Kind::kGreeting);
  EXPECT_FALSE((*client_->Next()).has_value());
  Say(": {}}\r\n{\"timestamp\": {\"seconds\": 1}, \"event\": \"STOP\"}\r\n");
  EXPECT_EQ((*client_->Next())->kind, QmpMessage::Kind::kReturn);
  auto event = *client_->Next();
  EXPECT_EQ(event->kind, QmpMessage::Kind::kEvent);
  EXPECT_EQ(event->text, "STOP");
}

TEST_F(QmpTest, Errors) {
  Say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\n");
  auto error = *client_->Next();
  EXPECT_EQ(error->kind, QmpMessage::Kind::kError);
  EXPECT_EQ(error->text, "no such thing");
}

TEST_F(QmpTest, NotJson) {
  Say("hello\n");
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Next().status()));
  EXPECT_FALSE(ParseQmp("{}").ok());
  EXPECT_FALSE(ParseQmp("[1]").ok());
}

TEST_F(QmpTest, EndOfStream) {
  engine_.Reset();
  EXPECT_TRUE(absl::IsOutOfRange(client_->Next().status()));
  EXPECT_FALSE(client_->Send("quit").ok());
}

TEST_F(QmpTest, AwaitHasADeadline) {
  EXPECT_TRUE(absl::IsDeadlineExceeded(client_->Await(absl::Milliseconds(10)).status()));
}

TEST_F(QmpTest, Commands) {
  ASSERT_TRUE(client_->Send("cont").ok());
  ASSERT_TRUE(client_->Send("migrate", R"({"uri":"fd:8"})").ok());
  char text[128] = {};
  ASSERT_GT(read(engine_.get(), text, sizeof(text) - 1), 0);
  EXPECT_STREQ(text,
               "{\"execute\":\"cont\",\"arguments\":{},\"id\":1}\n"
               "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:8\"},\"id\":2}\n");
  EXPECT_EQ(client_->last_id(), 2);
}

TEST(ParseQmp, ResponseNamesItsCommand) {
  EXPECT_EQ(ParseQmp(R"({"return": {}, "id": 7})")->id, 7);
  EXPECT_EQ(ParseQmp(R"({"error": {"class": "x", "desc": "y"}, "id": 8})")->id, 8);
  EXPECT_EQ(ParseQmp(R"({"return": {}, "id": "text"})")->id, 0);
}

TEST(ParseQmp, ShutdownHasAReason) {
  auto event =
      ParseQmp(R"({"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}})");
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(event->text, "SHUTDOWN");
  EXPECT_EQ(event->reason, "guest-reset");
}

TEST(ParseQmp, AnswersMayBeTexts) {
  EXPECT_EQ(ParseQmp(R"({"return": "CPU#0\r\n"})")->text, "CPU#0\r\n");
  EXPECT_EQ(ParseQmp(R"({"return": {"error-desc": "why"}})")->text, "why");
}

TEST(ParseQmp, MigrationHasAStatus) {
  auto event = ParseQmp(R"({"event": "MIGRATION", "data": {"status": "completed"}})");
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(event->text, "MIGRATION");
  EXPECT_EQ(event->status, "completed");
  EXPECT_EQ(ParseQmp(R"({"event": "STOP", "data": {}})")->status, "");
  EXPECT_EQ(ParseQmp(R"({"event": "X", "data": 3})")->status, "");
}

}  // namespace
}  // namespace ktstr::vmm::qemu
