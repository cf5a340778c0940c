// SPDX-License-Identifier: Apache-2.0
// A machine that goes back to its snapshot, again and again: each of its runs is, bit for bit, the
// run of a machine that was restored anew.
#include <signal.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/session.h"
#include "vmm/testing/real_guest.h"
#include "vmm/testing/vm_driver.h"
#include "vmm/window.h"

namespace ktstr::vmm {
namespace {

struct Seen {
  std::string stream;
  std::string digest;
  std::string console;
  bool operator==(const Seen& other) const {
    return stream == other.stream && digest == other.digest && console == other.console;
  }
};

class RewindVmTest : public testing::RealGuestTest {
 protected:
  // The machine stands at its snapshot, and at the end of the run at its last doorbell.
  Seen Run(Machine* machine, const testing::GuestWork& work) {
    Seen seen;
    Session::Options options = OptionsOf(&seen.stream);
    options.keep_machine = true;
    const v1::LaunchPlan& plan = launch_->plan();
    Session session(machine,
                    Window::Attach(&machine->Memory(), plan.window_address(), plan.window_size()),
                    base::RealClock()->Monotonic(), std::move(options));
    EXPECT_TRUE(session.Begin(Bundle(work).get()).ok());
    EXPECT_EQ(Follow(machine, &session), Session::State::kEnded);
    EXPECT_EQ(session.end().cause(), v1::VmEnd::DONE) << session.end().DebugString();
    EXPECT_TRUE(session.MachineIsKept());
    seen.digest = session.end().guest_digest();
    seen.console = machine->GuestConsole().Text().value_or("unreadable");
    return seen;
  }

  // The runs of one machine, with these seeds.
  void ExpectRewoundRunsEqualNewOnes(const std::vector<uint64_t>& seeds,
                                     absl::Duration hold = absl::Milliseconds(300)) {
    const auto work = [hold](uint64_t seed) {
      return testing::GuestWork{.seed = seed, .workers = static_cast<uint32_t>(seed), .hold = hold};
    };
    std::map<uint64_t, Seen> of_new;
    for (const uint64_t seed : seeds) {
      if (of_new.count(seed) != 0) continue;
      auto machine = Restore();
      ASSERT_TRUE(machine.ok()) << machine.status();
      of_new[seed] = Run(machine->get(), work(seed));
    }
    EXPECT_NE(of_new[1].digest, of_new[2].digest);
    auto machine = Restore();
    ASSERT_TRUE(machine.ok()) << machine.status();
    for (const uint64_t seed : seeds) {
      const Seen seen = Run(machine->get(), work(seed));
      EXPECT_EQ(seen.digest, of_new[seed].digest) << seed;
      EXPECT_TRUE(seen == of_new[seed]) << seed;
      const absl::Status rewound = (*machine)->Rewind();
      ASSERT_TRUE(rewound.ok()) << rewound;
    }
  }
};

TEST_F(RewindVmTest, OneCpu) {
  Boot({});
  if (snapshot_.has_value()) ExpectRewoundRunsEqualNewOnes({1, 2, 3, 3, 1});
}

// 16 CPUs, of which most are idle; and a NUMA machine, whose RAM is two files.
TEST_F(RewindVmTest, SixteenCpusOnTwoNodes) {
  Boot({.nodes = 2, .llcs = 2, .cores_per_llc = 8, .memory_mb = 512});
  if (snapshot_.has_value()) ExpectRewoundRunsEqualNewOnes({1, 2, 1}, absl::Milliseconds(100));
}

// An engine that dies before it goes back.
TEST_F(RewindVmTest, EngineThatDies) {
  Boot({});
  if (!snapshot_.has_value()) return;
  auto machine = Restore();
  ASSERT_TRUE(machine.ok()) << machine.status();
  EXPECT_FALSE((*machine)->CanRewind());
  EXPECT_TRUE(absl::IsFailedPrecondition((*machine)->Rewind()));
  Run(machine->get(), {});
  EXPECT_TRUE((*machine)->CanRewind());
  const std::vector<pid_t> engine = testing::ChildrenOf(getpid());
  ASSERT_EQ(engine.size(), 1u);
  kill(engine[0], SIGKILL);
  const absl::Status rewound = (*machine)->Rewind();
  EXPECT_FALSE(rewound.ok());
  machine->reset();
  EXPECT_THAT(testing::ChildrenOf(getpid()), ::testing::IsEmpty());
}

TEST_F(RewindVmTest, FourCpus) {
  Boot({.llcs = 2, .cores_per_llc = 2});
  if (snapshot_.has_value()) ExpectRewoundRunsEqualNewOnes({1, 2, 3, 3, 1});
}

}  // namespace
}  // namespace ktstr::vmm
