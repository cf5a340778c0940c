// SPDX-License-Identifier: Apache-2.0
#include "daemon/prepared_vms.h"

#include <poll.h>

#include <atomic>
#include <chrono>
#include <future>
#include <string>

#include "absl/time/clock.h"
#include "base/seqpacket.h"
#include "base/status_macros.h"
#include "gtest/gtest.h"

namespace ktstr::daemon {
namespace {

// A process that does nothing, in the place of a restored machine.
absl::StatusOr<VmProcess> StartIdle() {
  KTSTR_ASSIGN_OR_RETURN(auto pair, base::MakeSeqpacketPair());
  base::SpawnOptions options;
  options.argv = {"sleep", "1000"};
  options.fds = {{3, pair.second.get()}};
  KTSTR_ASSIGN_OR_RETURN(base::Child child, base::Spawn(options));
  return VmProcess{std::move(child), std::move(pair.first)};
}

class PreparedVmsTest : public ::testing::Test {
 protected:
  // Wants a machine, and returns once it waits.
  static void Have(PreparedVms& vms, const std::string& name, uid_t uid) {
    vms.Want(name, uid, StartIdle);
    vms.CountWaiting();
  }
  static bool Gone(const base::Child& child) {
    pollfd wait = {child.pidfd(), POLLIN, 0};
    return poll(&wait, 1, 0) == 1;
  }
};

TEST_F(PreparedVmsTest, WantedOnesWaitAndAreTakenOnce) {
  PreparedVms vms(2);
  EXPECT_FALSE(vms.Take("a", 1).has_value());
  Have(vms, "a", 1);
  EXPECT_FALSE(vms.Take("b", 1).has_value());
  auto taken = vms.Take("a", 1);
  ASSERT_TRUE(taken.has_value());
  EXPECT_FALSE(Gone(taken->child));
  EXPECT_FALSE(vms.Take("a", 1).has_value());
}

TEST_F(PreparedVmsTest, WantingTwiceIsWantingOnce) {
  PreparedVms vms(2);
  Have(vms, "a", 1);
  std::atomic<int> starts = 0;
  vms.Want("a", 1, [&starts] {
    ++starts;
    return StartIdle();
  });
  EXPECT_EQ(vms.CountWaiting(), 1u);
  EXPECT_EQ(starts, 0);
}

TEST_F(PreparedVmsTest, OneThatIsBeingStartedIsWaitedFor) {
  PreparedVms vms(1);
  std::promise<void> started;
  std::promise<void> go_on;
  vms.Want("a", 1, [&] {
    started.set_value();
    go_on.get_future().wait();
    return StartIdle();
  });
  started.get_future().wait();
  auto taken = std::async(std::launch::async, [&] { return vms.Take("a", 1).has_value(); });
  EXPECT_EQ(taken.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  go_on.set_value();
  EXPECT_TRUE(taken.get());
}

TEST_F(PreparedVmsTest, DroppedWhileItStartsAndWantedAnewIsTheNewOne) {
  PreparedVms vms(1);
  std::promise<void> started;
  std::promise<void> go_on;
  vms.Want("a", 1, [&] {
    started.set_value();
    go_on.get_future().wait();
    return StartIdle();
  });
  started.get_future().wait();
  vms.Drop("a");
  EXPECT_FALSE(vms.Take("a", 1).has_value());
  std::atomic<pid_t> pid = 0;
  vms.Want("a", 1, [&pid] {
    auto vm = StartIdle();
    if (vm.ok()) pid = vm->child.pid();
    return vm;
  });
  go_on.set_value();
  ASSERT_EQ(vms.CountWaiting(), 1u);
  const auto taken = vms.Take("a", 1);
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->child.pid(), pid);
}

TEST_F(PreparedVmsTest, WantedLongestAgoGoes) {
  PreparedVms vms(2);
  Have(vms, "a", 1);
  Have(vms, "b", 1);
  vms.Want("a", 1, StartIdle);  // Again: b is the older one now.
  Have(vms, "c", 1);
  EXPECT_FALSE(vms.Take("b", 1).has_value());
  EXPECT_TRUE(vms.Take("a", 1).has_value());
  EXPECT_TRUE(vms.Take("c", 1).has_value());
}

TEST_F(PreparedVmsTest, NobodyPushesOutWhatOthersUse) {
  PreparedVms vms(3);
  Have(vms, "mine", 1);
  Have(vms, "x", 2);
  Have(vms, "y", 2);
  Have(vms, "z", 2);  // In the place of x: user 2 has the most.
  EXPECT_TRUE(vms.Take("mine", 1).has_value());
  EXPECT_FALSE(vms.Take("x", 1).has_value());
  EXPECT_TRUE(vms.Take("y", 1).has_value());
  EXPECT_TRUE(vms.Take("z", 1).has_value());
}

TEST_F(PreparedVmsTest, DroppedOnesEnd) {
  PreparedVms vms(2);
  Have(vms, "a", 1);
  Have(vms, "b", 1);
  vms.Drop("a");
  EXPECT_EQ(vms.CountWaiting(), 1u);
  vms.DropAll();
  EXPECT_EQ(vms.CountWaiting(), 0u);
}

TEST_F(PreparedVmsTest, OneThatHasRunIsForNoOtherUser) {
  PreparedVms vms(3);
  auto vm = StartIdle();
  ASSERT_TRUE(vm.ok()) << vm.status();
  const pid_t has_run = vm->child.pid();
  vms.Put("a", 1, *std::move(vm));
  EXPECT_FALSE(vms.Take("a", 2).has_value());
  Have(vms, "a", 2);  // Its place is no other user's either.
  EXPECT_EQ(vms.CountWaiting(), 2u);
  const auto own = vms.Take("a", 1);
  ASSERT_TRUE(own.has_value());
  EXPECT_EQ(own->child.pid(), has_run);
  EXPECT_TRUE(vms.Take("a", 3).has_value());  // It has never run.
}

TEST_F(PreparedVmsTest, SeveralThatHaveRunWaitUnderOneName) {
  PreparedVms vms(2);
  Have(vms, "a", 1);
  for (int i = 0; i < 2; ++i) {  // In the place of "a", which was wanted before.
    auto vm = StartIdle();
    ASSERT_TRUE(vm.ok()) << vm.status();
    vms.Put("own", 1, *std::move(vm));
  }
  EXPECT_EQ(vms.CountWaiting(), 2u);
  EXPECT_FALSE(vms.Take("a", 1).has_value());
  const auto first = vms.Take("own", 1);
  const auto second = vms.Take("own", 1);
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_NE(first->child.pid(), second->child.pid());
  EXPECT_FALSE(Gone(first->child));
  EXPECT_FALSE(vms.Take("own", 1).has_value());
}

TEST_F(PreparedVmsTest, OneThatHasRunDoesNotWaitForEver) {
  PreparedVms vms(2, absl::Milliseconds(20));
  Have(vms, "a", 1);
  auto vm = StartIdle();
  ASSERT_TRUE(vm.ok()) << vm.status();
  vms.Put("own", 1, *std::move(vm));
  while (vms.CountWaiting() > 1) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_FALSE(vms.Take("own", 1).has_value());
  EXPECT_TRUE(vms.Take("a", 1).has_value());
}

TEST_F(PreparedVmsTest, OneThatWaitsComesBeforeOneThatStarts) {
  PreparedVms vms(2);
  std::promise<void> started;
  std::promise<void> go_on;
  auto vm = StartIdle();
  ASSERT_TRUE(vm.ok()) << vm.status();
  const pid_t waiting = vm->child.pid();
  vms.Want("a", 1, [&] {
    started.set_value();
    go_on.get_future().wait();
    return StartIdle();
  });
  started.get_future().wait();
  vms.Put("a", 1, *std::move(vm));
  const auto taken = vms.Take("a", 1);
  go_on.set_value();
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->child.pid(), waiting);
}

TEST_F(PreparedVmsTest, OneThatCannotBeStartedIsForgotten) {
  PreparedVms vms(1);
  vms.Want("a", 1, [] { return absl::StatusOr<VmProcess>(absl::InternalError("no")); });
  Have(vms, "b", 1);  // Its turn comes.
  EXPECT_TRUE(vms.Take("b", 1).has_value());
}

TEST_F(PreparedVmsTest, CapacityZeroStartsNothing) {
  PreparedVms vms(0);
  vms.Want("a", 1, StartIdle);
  EXPECT_EQ(vms.CountWaiting(), 0u);
}

}  // namespace
}  // namespace ktstr::daemon
