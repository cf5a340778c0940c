// SPDX-License-Identifier: Apache-2.0
// A host that looks at a real guest (Session::Options::look): the guest's execution does not depend
// on whether it looks, how often, and how long it takes. Machines are driven in this process, with
// the real agent.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ktstr/v1/guest.pb.h"
#include "vmm/bundle.h"
#include "vmm/session.h"
#include "vmm/testing/real_guest.h"
#include "vmm/testing/vm_driver.h"
#include "vmm/window.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm {
namespace {

constexpr absl::Duration kHold = absl::Milliseconds(300);
// The workers have started: all CPUs have been idle before.
constexpr absl::Duration kStart = absl::Milliseconds(5);

// How the host looks, and what it sees.
struct Watch {
  absl::Duration period = absl::InfiniteDuration();  // Infinite: it does not look.
  int longest_us = 0;                                // A look takes 0 to this much host time.
  absl::Duration run_limit = absl::Minutes(1);
  absl::Duration timeout = absl::Minutes(5);
  std::function<void()> at_look;

  std::vector<absl::Duration> looks;
  std::string seen;  // Digest of the window's header and ring at every look.
  std::string stream;
  v1::VmEnd end;
  absl::Duration stood_at;  // Guest time.
};

class RendezvousVmTest : public testing::RealGuestTest {
 protected:
  void Run(Watch* watch) {
    auto restored = launch_->engine().Restore(launch_->launch(), *snapshot_, RestoredRam::kShared);
    ASSERT_TRUE(restored.ok()) << restored.status();
    Machine* const machine = restored->get();
    const v1::LaunchPlan& plan = launch_->plan();
    Session::Options options = OptionsOf(&watch->stream);
    options.timeout = watch->timeout;
    options.run_limit = watch->run_limit;
    std::mt19937 random(12345);
    if (watch->period != absl::InfiniteDuration()) {
      options.look_period = watch->period;
      options.look = [&, watch](absl::Duration now) {
        watch->looks.push_back(now);
        std::string bytes(window::kRingOffset + 65536, '\0');
        absl::Status read =
            machine->Memory().Read(plan.window_address(), bytes.data(), bytes.size());
        watch->seen = base::Sha256Hex(watch->seen + bytes);
        if (watch->longest_us > 0) {
          usleep(std::uniform_int_distribution<useconds_t>(0, watch->longest_us)(random));
        }
        if (watch->at_look) watch->at_look();
        return read;
      };
    }
    Session session(machine,
                    Window::Attach(&machine->Memory(), plan.window_address(), plan.window_size()),
                    base::RealClock()->Monotonic(), std::move(options));
    ASSERT_TRUE(session.Begin(Bundle({.hold = kHold}).get()).ok());
    EXPECT_EQ(Follow(machine, &session), Session::State::kEnded);
    watch->end = session.end();
    watch->stood_at = machine->GuestTime().value_or(absl::ZeroDuration());
  }

  // Runs with and without looks are equal, also when each look takes a random time.
  void ExpectNoInfluence(bool busy) {
    Watch unwatched;
    Run(&unwatched);
    ASSERT_EQ(unwatched.end.cause(), v1::VmEnd::DONE) << unwatched.end.DebugString();
    const absl::Duration turn = DefaultVcpuTurn(launch_->plan());
    Watch fast[2];
    for (Watch& watch : fast) watch.period = absl::Milliseconds(1);
    fast[1].longest_us = 1500;
    Watch slow;
    slow.period = absl::Milliseconds(10);
    for (Watch* watch : {&fast[0], &fast[1], &slow}) {
      SCOPED_TRACE(absl::StrCat(absl::FormatDuration(watch->period), " ", watch->longest_us));
      Run(watch);
      EXPECT_EQ(watch->end.cause(), v1::VmEnd::DONE) << watch->end.DebugString();
      EXPECT_EQ(watch->end.guest_digest(), unwatched.end.guest_digest());
      EXPECT_TRUE(watch->stream == unwatched.stream);
      const size_t periods = static_cast<size_t>(kHold / watch->period);
      if (busy) {
        EXPECT_GE(watch->looks.size(), periods);
      }
      ASSERT_GE(watch->looks.size(), 2u);
      absl::Duration latest;
      for (size_t i = 1; i < watch->looks.size(); ++i) {
        const absl::Duration due = absl::Floor(watch->looks[i - 1], watch->period) + watch->period;
        ASSERT_GE(watch->looks[i], due) << i;
        const absl::Duration since = watch->looks[i] - watch->looks[0];
        if (since > kStart && since < kHold) {
          latest = std::max(latest, watch->looks[i] - due);
        }
      }
      RecordProperty(absl::StrCat("looks_", absl::ToInt64Milliseconds(watch->period), "ms"),
                     static_cast<int>(watch->looks.size()));
      RecordProperty("latest_us", static_cast<int>(absl::ToInt64Microseconds(latest)));
      // A turn that was cut short is made up in the next.
      if (busy) {
        EXPECT_LE(latest, 2 * turn);
      }
    }
    EXPECT_EQ(fast[0].looks, fast[1].looks);
    EXPECT_EQ(fast[0].seen, fast[1].seen);
  }
};

TEST_F(RendezvousVmTest, OneCpu) {
  Boot({});
  if (snapshot_.has_value()) ExpectNoInfluence(/*busy=*/true);
}

TEST_F(RendezvousVmTest, FourCpus) {
  Boot({.llcs = 2, .cores_per_llc = 2});
  if (snapshot_.has_value()) ExpectNoInfluence(/*busy=*/true);
}

TEST_F(RendezvousVmTest, SixteenCpus) {
  Boot({.llcs = 2, .cores_per_llc = 8});
  if (snapshot_.has_value()) ExpectNoInfluence(/*busy=*/true);
}

// The run's limit, an engine that dies while the host looks, and one that stands still.
TEST_F(RendezvousVmTest, Ends) {
  Boot({.cores_per_llc = 2});
  if (!snapshot_.has_value()) return;
  std::vector<std::string> streams;
  for (const int longest_us : {0, 1500}) {
    Watch limited;
    limited.period = absl::Milliseconds(10);
    limited.longest_us = longest_us;
    limited.run_limit = absl::Milliseconds(200);
    Run(&limited);
    EXPECT_EQ(limited.end.cause(), v1::VmEnd::GUEST_HUNG) << limited.end.DebugString();
    EXPECT_EQ(limited.end.vcpu_size(), 2);
    EXPECT_EQ(limited.looks.size(), 21u);
    // All of its end but the host's times.
    for (const auto clear :
         {&v1::VmEnd::clear_host_boot_ns, &v1::VmEnd::clear_host_attach_ns,
          &v1::VmEnd::clear_host_scenario_ns, &v1::VmEnd::clear_host_teardown_ns}) {
      (limited.end.*clear)();
    }
    const absl::Duration limit = limited.looks[0] + limited.run_limit;
    EXPECT_GE(limited.stood_at, limit);
    EXPECT_LE(limited.stood_at, limit + 2 * DefaultVcpuTurn(launch_->plan()));
    streams.push_back(limited.stream + limited.seen + limited.end.DebugString());
  }
  EXPECT_TRUE(streams[0] == streams[1]);

  const auto signal_qemu = [](int signal) {
    const std::vector<pid_t> engine = testing::ChildrenOf(getpid());
    ASSERT_EQ(engine.size(), 1u);
    kill(engine[0], signal);
  };
  Watch killed;
  killed.period = absl::Milliseconds(10);
  killed.at_look = [&] { signal_qemu(SIGKILL); };
  Run(&killed);
  EXPECT_EQ(killed.end.cause(), v1::VmEnd::ENGINE_FAILED) << killed.end.DebugString();
  EXPECT_EQ(killed.looks.size(), 1u);

  Watch stalled;
  stalled.period = absl::Milliseconds(10);
  stalled.timeout = absl::Seconds(3);
  stalled.at_look = [&] { signal_qemu(SIGSTOP); };
  Run(&stalled);
  EXPECT_EQ(stalled.end.cause(), v1::VmEnd::TIMEOUT) << stalled.end.DebugString();
  EXPECT_THAT(testing::ChildrenOf(getpid()), ::testing::IsEmpty());
}

}  // namespace
}  // namespace ktstr::vmm
