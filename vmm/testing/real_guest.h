// SPDX-License-Identifier: Apache-2.0
//
// A fixture for tests that drive real guests, with the real agent, in their own process: boots one
// and keeps its snapshot.

#ifndef KTSTR_VMM_TESTING_REAL_GUEST_H_
#define KTSTR_VMM_TESTING_REAL_GUEST_H_

#include <poll.h>
#include <signal.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "ktstr/v1/guest.pb.h"
#include "vmm/bundle.h"
#include "vmm/session.h"
#include "vmm/testing/real_launch.h"
#include "vmm/window.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm::testing {

// What a guest does: spinning workers of one cgroup.
struct GuestWork {
  uint64_t seed = 1;
  uint32_t workers = 4;
  absl::Duration hold = absl::Milliseconds(300);
};

class RealGuestTest : public ::testing::Test {
 protected:
  // Skips the test on a host that cannot run guests: snapshot_ stays unset.
  void Boot(const MachineShape& shape) {
    signal(SIGPIPE, SIG_IGN);  // As ktstr-vm: the answer to an engine that is gone.
    auto launch =
        RealLaunch::Make(shape, absl::StrCat(KTSTR_BIN_DIR, "/ktstr-agent"), BundleCapacity(0));
    if (absl::IsNotFound(launch.status())) GTEST_SKIP() << launch.status();
    ASSERT_TRUE(launch.ok()) << launch.status();
    launch_ = *std::move(launch);
    const v1::LaunchPlan& plan = launch_->plan();
    auto memory = *SharedMemory::Create({plan.node_memory().begin(), plan.node_memory().end()});
    Window window = *Window::Create(memory.get(), plan.window_address(), plan.window_size(),
                                    window::kFlagStopAtReady);
    auto machine = launch_->engine().Boot(launch_->launch(), std::move(memory));
    ASSERT_TRUE(machine.ok()) << machine.status();
    std::string stream;
    Session::Options options = OptionsOf(&stream);
    options.until = window::kDoorbellReady;
    Session session(machine->get(), std::move(window), base::RealClock()->Monotonic(),
                    std::move(options));
    ASSERT_EQ(Follow(machine->get(), &session), Session::State::kStopped)
        << (*machine)->GuestConsole().Text().value_or("");
    auto taken = (*machine)->TakeSnapshot();
    ASSERT_TRUE(taken.ok()) << taken.status();
    snapshot_ = *std::move(taken);
  }

  static base::UniqueFd Bundle(const GuestWork& does) {
    v1::GuestPlan plan;
    plan.set_seed(does.seed);
    plan.set_report_timeout_ms(5000);
    plan.set_overrun_ms(60000);
    v1::GuestStep* step = plan.add_step();
    step->set_hold_ns(absl::ToInt64Nanoseconds(does.hold));
    v1::GuestCgroup* cgroup = step->add_cgroup();
    cgroup->set_name("left");
    v1::GuestWork* work = cgroup->add_work();
    work->set_type("spin_wait");
    work->set_workers(does.workers);
    BundleBuilder bundle;
    bundle.AddData("plan.pb", plan.SerializeAsString(), 0644);
    return *bundle.Finish(1 << 20);
  }

  // `*stream` gets all observations.
  static Session::Options OptionsOf(std::string* stream) {
    Session::Options options;
    options.timeout = absl::Minutes(5);
    options.run_limit = absl::Minutes(1);
    options.take_digest = true;
    options.observe = [stream](v1::Observation o) {
      *stream += o.SerializeAsString() + "|";
      return absl::OkStatus();
    };
    options.progress = [](const std::string&) {};
    return options;
  }

  static Session::State Follow(Machine* machine, Session* session) {
    std::vector<pollfd> waits;
    for (int fd : machine->PollFds()) waits.push_back({fd, POLLIN, 0});
    while (true) {
      auto state = session->Step();
      EXPECT_TRUE(state.ok()) << state.status();
      if (!state.ok()) return Session::State::kEnded;
      if (*state != Session::State::kRuns) return *state;
      poll(waits.data(), waits.size(), 20);
    }
  }

  absl::StatusOr<std::unique_ptr<Machine>> Restore() {
    return launch_->engine().Restore(launch_->launch(), *snapshot_, RestoredRam::kShared);
  }

  std::optional<RealLaunch> launch_;
  std::optional<Snapshot> snapshot_;
};

}  // namespace ktstr::vmm::testing

#endif  // KTSTR_VMM_TESTING_REAL_GUEST_H_
