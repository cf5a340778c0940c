// SPDX-License-Identifier: Apache-2.0
#include "vmm/session.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/digest.h"
#include "vmm/process.h"
#include "vmm/testing/fake_machine.h"
#include "vmm/testing/kernel_image.h"
#include "vmm/testing/ring_writer.h"

namespace ktstr::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kWindow = 4 << 20;

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() { Make(0); }

  void Make(uint32_t until, bool attach = false) {
    Session::Options& options = options_;
    options.until = until;
    options.timeout = absl::Seconds(10);
    options.boot_limit = absl::Seconds(200);
    options.run_limit = absl::Minutes(1);
    options.attach_limit = absl::Seconds(50);
    options.take_digest = true;
    options.observe = [this](v1::Observation o) {
      observations_.push_back(std::move(o));
      return listener_;
    };
    options.progress = [](const std::string&) {};
    options.console = [this](std::string text) {
      console_.push_back(std::move(text));
      return listener_;
    };
    options.symbols = [] {
      return KernelSymbols::Parse(testing::SymtabImage(
          {{testing::kKernelBase, "Tdo_idle"}, {testing::kKernelBase + 64, "T_end"}}));
    };
    options.clock = &clock_;
    Window window = attach ? Window::Attach(&machine_.Memory(), 0, kWindow)
                           : *Window::Create(&machine_.Memory(), 0, kWindow);
    session_.emplace(&machine_, std::move(window), clock_.Monotonic(), options);
  }

  testing::RingWriter Guest() { return testing::RingWriter(machine_.Memory().At(0, 1)->data()); }
  bool Step() {
    auto ended = session_->Step();
    EXPECT_TRUE(ended.ok()) << ended.status();
    return ended.ok() && *ended == Session::State::kEnded;
  }
  void Ring(uint32_t doorbell) {
    Guest().header()->doorbell = doorbell;
    machine_.events.push_back({MachineEvent::Kind::kStopped, {}});
  }
  void RingBell(uint32_t doorbell) {
    Guest().header()->doorbell = doorbell;
    machine_.events.push_back({MachineEvent::Kind::kRang, {}});
  }
  void Print(const std::string& text) {
    ASSERT_TRUE(base::WriteAll(machine_.GuestConsole().fd(), text, "console").ok());
  }
  void ExpectEnd(v1::VmEnd::Cause cause, const std::string& detail) {
    ASSERT_TRUE(Step());
    EXPECT_EQ(session_->end().cause(), cause) << session_->end().DebugString();
    EXPECT_THAT(session_->end().detail(), HasSubstr(detail));
    EXPECT_EQ(machine_.stops, 1);
    EXPECT_TRUE(Step());  // An end is final.
    EXPECT_EQ(machine_.stops, 1);
  }
  static std::string Reached(v1::Stage stage) {
    v1::Observation o;
    o.mutable_stage()->set_stage(stage);
    return o.SerializeAsString();
  }
  static std::string Mark(v1::StepMark::Edge edge) {
    v1::Observation o;
    o.mutable_step_mark()->set_edge(edge);
    return o.SerializeAsString();
  }

  testing::FakeMachine machine_{4 << 20};
  base::FakeClock clock_{absl::UnixEpoch()};
  Session::Options options_;
  absl::Status listener_;
  std::vector<v1::Observation> observations_;
  std::vector<std::string> console_;
  std::optional<Session> session_;
};

TEST_F(SessionTest, WholeRunWithItsTimes) {
  testing::RingWriter guest = Guest();
  EXPECT_FALSE(Step());
  clock_.Advance(absl::Seconds(1));
  guest.Write(Reached(v1::READY));
  EXPECT_FALSE(Step());
  clock_.Advance(absl::Seconds(2));
  guest.Write(Mark(v1::StepMark::BEGIN), 77);
  EXPECT_FALSE(Step());
  clock_.Advance(absl::Seconds(3));
  guest.Write(Mark(v1::StepMark::END));
  EXPECT_FALSE(Step());
  clock_.Advance(absl::Seconds(1));
  guest.header()->stage = v1::DONE;
  Ring(window::kDoorbellDone);
  const std::string digest = *DigestOf(machine_.Memory());
  ExpectEnd(v1::VmEnd::DONE, "");
  const v1::VmEnd& end = session_->end();
  EXPECT_EQ(end.last_stage(), v1::DONE);
  EXPECT_EQ(end.guest_digest(), digest);
  EXPECT_EQ(end.engine_version(), "FAKE 1.0");
  EXPECT_EQ(end.host_boot_ns(), 1000000000u);
  EXPECT_EQ(end.host_attach_ns(), 2000000000u);
  EXPECT_EQ(end.host_scenario_ns(), 3000000000u);
  EXPECT_EQ(end.host_teardown_ns(), 1000000000u);
  ASSERT_EQ(observations_.size(), 3u);
  EXPECT_EQ(observations_[1].guest_time_ns(), 77u);
}

// An observation that comes when all of it is over has the time at which it began.
TEST_F(SessionTest, AnObservationKeepsTheTimeAtWhichItWasSeen) {
  testing::RingWriter guest = Guest();
  for (const uint64_t seen : {0, 500, 901}) {
    v1::Observation o;
    o.set_guest_time_ns(seen);
    o.mutable_scheduler_exit()->set_cause(v1::SchedulerExit::EJECTED);
    guest.Write(o.SerializeAsString(), 900);
  }
  EXPECT_FALSE(Step());
  ASSERT_EQ(observations_.size(), 3u);
  EXPECT_EQ(observations_[0].guest_time_ns(), 900u);
  EXPECT_EQ(observations_[1].guest_time_ns(), 500u);
  EXPECT_EQ(observations_[2].guest_time_ns(), 900u);  // Nobody sees the future.
}

// At a stop as at the bell.
TEST_F(SessionTest, FullRingIsEmptiedAndGivenBack) {
  testing::RingWriter guest = Guest();
  for (const int resumes : {1, 2}) {
    guest.Write(Mark(v1::StepMark::BEGIN));
    resumes == 1 ? Ring(window::kDoorbellRingFull) : RingBell(window::kDoorbellRingFull);
    EXPECT_FALSE(Step());
    EXPECT_EQ(observations_.size(), static_cast<size_t>(resumes));
    EXPECT_EQ(guest.header()->tail, guest.header()->head);
    EXPECT_EQ(guest.header()->doorbell, window::kDoorbellNone);
    EXPECT_EQ(machine_.resumes, resumes);
  }
}

TEST_F(SessionTest, TheBellMayEndTheRun) {
  RingBell(window::kDoorbellDone);
  ExpectEnd(v1::VmEnd::DONE, "");
  EXPECT_EQ(session_->end().guest_digest().size(), 64u);
  EXPECT_EQ(machine_.resumes, 0);
}

// A snapshot needs a machine that has stopped, and the kernel's panic rings elsewhere.
TEST_F(SessionTest, MachineThatCanBeRewoundIsKeptAtItsLastDoorbell) {
  options_.keep_machine = true;
  machine_.can_rewind = true;
  Make(0);
  RingBell(window::kDoorbellDone);
  ASSERT_TRUE(Step());
  EXPECT_EQ(session_->end().cause(), v1::VmEnd::DONE);
  EXPECT_TRUE(session_->MachineIsKept());
  EXPECT_EQ(machine_.stops, 0);
  EXPECT_EQ(machine_.resumes, 0);
}

TEST_F(SessionTest, OtherMachinesAreStopped) {
  options_.keep_machine = true;
  Make(0);
  RingBell(window::kDoorbellDone);  // It cannot be rewound.
  ExpectEnd(v1::VmEnd::DONE, "");
  EXPECT_FALSE(session_->MachineIsKept());

  machine_.can_rewind = true;
  machine_.stops = 0;
  Make(0);
  Ring(window::kDoorbellDone);  // A stop, from which a machine does not resume in a definite order.
  ExpectEnd(v1::VmEnd::DONE, "");

  machine_.stops = 0;
  Make(0);
  session_->Cancel("enough");
  ExpectEnd(v1::VmEnd::CANCELLED, "enough");
  EXPECT_FALSE(session_->MachineIsKept());
}

TEST_F(SessionTest, TheBellIsForTwoReasonsOnly) {
  for (const uint32_t reason : {window::kDoorbellNone, window::kDoorbellReady,
                                window::kDoorbellAttached, window::kDoorbellGaveUp, 77U}) {
    machine_.stops = 0;
    Make(window::kDoorbellReady);
    RingBell(reason);
    ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, absl::StrCat("rang the bell for ", reason));
  }
}

TEST_F(SessionTest, ReadyIsForSnapshotsOnly) {
  Ring(window::kDoorbellReady);
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "unasked");
}

TEST_F(SessionTest, BootToReadyStopsThere) {
  Make(window::kDoorbellReady);
  testing::RingWriter guest = Guest();
  guest.Write(Mark(v1::StepMark::BEGIN));
  Ring(window::kDoorbellReady);
  for (int i = 0; i < 2; ++i) {
    auto state = session_->Step();
    ASSERT_TRUE(state.ok());
    EXPECT_EQ(*state, Session::State::kStopped);
  }
  EXPECT_EQ(machine_.resumes, 0);
  EXPECT_EQ(machine_.stops, 0);
  // The snapshot holds the doorbell, and a ring of which nothing was taken.
  EXPECT_EQ(guest.header()->doorbell, window::kDoorbellReady);
  EXPECT_EQ(guest.header()->tail, 0u);
}

TEST_F(SessionTest, AttachedIsForSnapshotsOnly) {
  Ring(window::kDoorbellAttached);
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "rang Attached unasked");
}

TEST_F(SessionTest, AttachStopsAtItsDoorbell) {
  const base::UniqueFd bundle = *base::MakeMemfd("bundle", 100);
  testing::RingWriter guest = Guest();
  guest.Write(Mark(v1::StepMark::BEGIN));
  guest.header()->doorbell = window::kDoorbellReady;
  Make(window::kDoorbellAttached, /*attach=*/true);
  ASSERT_TRUE(session_->Begin(bundle.get()).ok());
  guest.Write(Mark(v1::StepMark::END));
  Ring(window::kDoorbellAttached);
  auto state = session_->Step();
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(*state, Session::State::kStopped);
  EXPECT_TRUE(session_->RingIsWhole());
  EXPECT_EQ(observations_.size(), 2u);
  // A restored guest's session reads the ring from its beginning, writes its plan and goes on.
  observations_.clear();
  Make(/*until=*/0, /*attach=*/true);
  ASSERT_TRUE(session_->Begin(bundle.get()).ok());
  EXPECT_EQ(observations_.size(), 2u);
  EXPECT_EQ(guest.header()->doorbell, window::kDoorbellNone);
}

TEST_F(SessionTest, ARingThatWasFullIsNotWhole) {
  const base::UniqueFd bundle = *base::MakeMemfd("bundle", 100);
  Guest().header()->doorbell = window::kDoorbellReady;
  Make(window::kDoorbellAttached, /*attach=*/true);
  ASSERT_TRUE(session_->Begin(bundle.get()).ok());
  Ring(window::kDoorbellRingFull);
  EXPECT_FALSE(Step());
  EXPECT_FALSE(session_->RingIsWhole());
}

TEST_F(SessionTest, RestoredGuestGetsItsBundleAndGoesOn) {
  const base::UniqueFd bundle = *base::MakeMemfd("bundle", 100);
  testing::RingWriter guest = Guest();
  guest.Write(Mark(v1::StepMark::BEGIN));
  guest.header()->doorbell = window::kDoorbellReady;
  Make(/*until=*/0, /*attach=*/true);
  ASSERT_TRUE(session_->Begin(bundle.get()).ok());
  EXPECT_EQ(machine_.resumes, 1);
  EXPECT_EQ(observations_.size(), 1u);
  EXPECT_EQ(guest.header()->bundle_size, 100u);
  EXPECT_EQ(guest.header()->doorbell, window::kDoorbellNone);
  EXPECT_EQ(guest.header()->tail, guest.header()->head);
  EXPECT_FALSE(Step());
}

TEST_F(SessionTest, RestoreOfWhatIsNotReadyIsAnEngineError) {
  const base::UniqueFd bundle = *base::MakeMemfd("bundle", 100);
  Guest().header()->doorbell = window::kDoorbellDone;
  Make(/*until=*/0, /*attach=*/true);
  ASSERT_TRUE(session_->Begin(bundle.get()).ok());
  ExpectEnd(v1::VmEnd::ENGINE_FAILED, "stands at doorbell 3");
}

TEST_F(SessionTest, BundleTooLargeForTheWindow) {
  const base::UniqueFd bundle = *base::MakeMemfd("bundle", 3 << 20);
  Guest().header()->doorbell = window::kDoorbellReady;
  Make(/*until=*/0, /*attach=*/true);
  ASSERT_TRUE(session_->Begin(bundle.get()).ok());
  ExpectEnd(v1::VmEnd::ENGINE_FAILED, "does not fit");
  EXPECT_EQ(machine_.resumes, 0);
}

TEST_F(SessionTest, PanicByItsNotifier) {
  Ring(window::kDoorbellNone);
  ExpectEnd(v1::VmEnd::PANIC, "");
}

// Console text explains an end, and never changes its cause.
TEST_F(SessionTest, TextDoesNotChangeTheCause) {
  Print("[    2.0] Oops: int3: 0000 [#1]\n[    2.1] Kernel panic - not syncing: Fatal exception\n");
  Ring(window::kDoorbellDone);
  ExpectEnd(v1::VmEnd::DONE, "");
  EXPECT_THAT(session_->end().crash_line(),
              ElementsAre("[    2.0] Oops: int3: 0000 [#1]",
                          "[    2.1] Kernel panic - not syncing: Fatal exception"));
}

TEST_F(SessionTest, ResetAndPowerOffAreToldApart) {
  Print("[    2.0] Kernel panic - not syncing: Fatal exception\n");
  machine_.events.push_back({MachineEvent::Kind::kPoweredOff, {}});
  ExpectEnd(v1::VmEnd::GUEST_POWERED_OFF, "");
  EXPECT_FALSE(session_->end().agent_gave_up());
}

TEST_F(SessionTest, Reset) {
  Print("[    2.0] Kernel panic - not syncing: Fatal exception\n");
  machine_.events.push_back({MachineEvent::Kind::kReset, {}});
  ExpectEnd(v1::VmEnd::GUEST_RESET, "");
}

TEST_F(SessionTest, PowerOffByTheAgentCarriesItsReason) {
  Print("ktstr-agent: stage INIT_STARTED\nktstr-agent: error: /dev/mem: no such file\n");
  Guest().header()->doorbell = window::kDoorbellGaveUp;
  machine_.events.push_back({MachineEvent::Kind::kPoweredOff, {}});
  ExpectEnd(v1::VmEnd::GUEST_POWERED_OFF, "");
  EXPECT_TRUE(session_->end().agent_gave_up());
  EXPECT_EQ(session_->end().agent_error(), "/dev/mem: no such file");
  EXPECT_EQ(session_->end().last_stage(), v1::INIT_STARTED);
}

TEST_F(SessionTest, HangAfterDoneCostsTheDigestOnly) {
  Guest().Write(Reached(v1::DONE));
  EXPECT_FALSE(Step());
  clock_.Advance(absl::Seconds(29));  // Beyond the run's own limit of 10 s.
  EXPECT_FALSE(Step());
  clock_.Advance(absl::Seconds(1));
  ExpectEnd(v1::VmEnd::DONE, "no digest: the guest did not reach its last doorbell within 30s");
  EXPECT_EQ(session_->end().guest_digest(), "");
}

TEST_F(SessionTest, HangAfterDoneInGuestTime) {
  Guest().Write(Reached(v1::DONE));
  machine_.guest_time = absl::Seconds(100);
  EXPECT_FALSE(Step());
  machine_.guest_time = absl::Seconds(104);
  EXPECT_FALSE(Step());
  machine_.guest_time = absl::Seconds(105);
  v1::VcpuState vcpu;
  vcpu.set_rip(77);
  machine_.vcpus = {vcpu};
  ExpectEnd(v1::VmEnd::DONE, "within 5s of guest time after DONE");
  ASSERT_EQ(session_->end().vcpu_size(), 1);
  EXPECT_EQ(session_->end().vcpu(0).rip(), 77u);
}

TEST_F(SessionTest, BootThatIsNeverReady) {
  machine_.guest_time = absl::Seconds(199);
  EXPECT_FALSE(Step());
  machine_.guest_time = absl::Seconds(200);
  v1::VcpuState kernel;
  kernel.set_rip(testing::kKernelBase + 0x12);
  v1::VcpuState user = kernel;  // A program may have any address.
  user.set_user_space(true);
  v1::VcpuState firmware;
  firmware.set_rip(77);
  machine_.vcpus = {kernel, user, firmware};
  ExpectEnd(v1::VmEnd::GUEST_HUNG, "the boot's limit of 3m20s of guest time was reached");
  ASSERT_EQ(session_->end().vcpu_size(), 3);
  EXPECT_EQ(session_->end().vcpu(0).rip(), testing::kKernelBase + 0x12);
  EXPECT_EQ(session_->end().vcpu(0).symbol(), "do_idle+0x12");
  EXPECT_EQ(session_->end().vcpu(1).symbol(), "");
  EXPECT_EQ(session_->end().vcpu(2).symbol(), "");
}

// The run's limit counts from READY, not from the boot.
TEST_F(SessionTest, GuestThatHangsInItsRun) {
  Guest().Write(Reached(v1::READY));
  EXPECT_FALSE(Step());  // The clock is not known yet.
  machine_.guest_time = absl::Seconds(1000);
  EXPECT_FALSE(Step());
  machine_.guest_time = absl::Seconds(1059);
  EXPECT_FALSE(Step());
  machine_.guest_time = absl::Seconds(1060);
  ExpectEnd(v1::VmEnd::GUEST_HUNG, "the limit of 1m of guest time was reached");
}

// What an attach may take is no time for a guest that hangs after it.
TEST_F(SessionTest, GuestThatHangsAfterTheAttach) {
  auto guest = Guest();
  const auto reach = [&](v1::Stage stage) {
    guest.Write(Reached(stage));
    EXPECT_FALSE(Step());
  };
  reach(v1::READY);
  machine_.guest_time = absl::Seconds(1000);
  EXPECT_FALSE(Step());
  machine_.guest_time = absl::Seconds(1035);
  EXPECT_FALSE(Step());
  reach(v1::SCHEDULER_ENABLED);  // 35 of the 50 s that an attach may take.
  machine_.guest_time = absl::Seconds(1044);
  EXPECT_FALSE(Step());
  machine_.guest_time = absl::Seconds(1045);
  ExpectEnd(v1::VmEnd::GUEST_HUNG, "the limit of 10s of guest time after the attach was reached");
}

TEST_F(SessionTest, EngineLostHasItsWords) {
  machine_.output = "qemu: cannot allocate memory";
  machine_.events.push_back({MachineEvent::Kind::kEnded, "exited with 1"});
  ExpectEnd(v1::VmEnd::ENGINE_FAILED, "the engine exited with 1: qemu: cannot allocate memory");
}

TEST_F(SessionTest, EngineThatBreaksItsProtocolIsLost) {
  machine_.broken = absl::InvalidArgumentError("QMP: not a message");
  ExpectEnd(v1::VmEnd::ENGINE_FAILED, "QMP: not a message");
}

// From the first step on the run ends at an exact guest time, however seldom the host looks.
TEST_F(SessionTest, TheLimitIsARendezvous) {
  Guest().Write(Reached(v1::READY));
  machine_.guest_time = absl::Seconds(1000);
  EXPECT_FALSE(Step());
  RingBell(window::kDoorbellFirstStep);
  machine_.guest_time = absl::Seconds(1040);
  EXPECT_FALSE(Step());
  EXPECT_EQ(machine_.resumes, 1);
  EXPECT_EQ(Guest().header()->doorbell, window::kDoorbellNone);
  EXPECT_EQ(machine_.rendezvous, absl::Seconds(1050));  // The attach may take 50 of the minute.
  machine_.guest_time = absl::Seconds(1051);
  EXPECT_FALSE(Step());  // What the host reads in between does not count.
  machine_.events.push_back({MachineEvent::Kind::kRendezvous, {}});
  ExpectEnd(v1::VmEnd::GUEST_HUNG, "the limit of 10s of guest time after the attach was reached");
}

TEST_F(SessionTest, NoLimitAfterDone) {
  testing::RingWriter guest = Guest();
  guest.Write(Reached(v1::READY));
  machine_.guest_time = absl::Seconds(1000);
  RingBell(window::kDoorbellFirstStep);
  EXPECT_FALSE(Step());
  guest.Write(Reached(v1::DONE));
  machine_.guest_time = absl::Seconds(1010);
  machine_.events.push_back({MachineEvent::Kind::kRendezvous, {}});
  EXPECT_FALSE(Step());
  EXPECT_EQ(machine_.resumes, 2);
  EXPECT_EQ(machine_.rendezvous, absl::InfiniteDuration());
}

TEST_F(SessionTest, AMachineWithoutBoundedTurnsKeepsNoRendezvous) {
  machine_.bounded_turns = false;
  Guest().Write(Reached(v1::READY));
  machine_.guest_time = absl::Seconds(1000);
  RingBell(window::kDoorbellFirstStep);
  EXPECT_FALSE(Step());
  EXPECT_EQ(machine_.rendezvous, absl::InfiniteDuration());
  machine_.guest_time = absl::Seconds(1060);
  ExpectEnd(v1::VmEnd::GUEST_HUNG, "the limit of 1m of guest time was reached");
}

TEST_F(SessionTest, LooksComeAtMultiplesOfThePeriod) {
  std::vector<absl::Duration> looks;
  options_.look_period = absl::Milliseconds(10);
  options_.look = [&](absl::Duration now) {
    looks.push_back(now);
    return listener_;
  };
  Make(0);
  Guest().Write(Reached(v1::READY));
  machine_.guest_time = absl::Milliseconds(1003);
  RingBell(window::kDoorbellFirstStep);
  EXPECT_FALSE(Step());
  EXPECT_EQ(machine_.rendezvous, absl::Milliseconds(1010));
  for (const int ms : {1010, 1041}) {  // All vCPUs were idle from 1011 to 1041.
    machine_.guest_time = absl::Milliseconds(ms) + absl::Microseconds(40);
    machine_.events.push_back({MachineEvent::Kind::kRendezvous, {}});
    EXPECT_FALSE(Step());
  }
  EXPECT_EQ(machine_.rendezvous, absl::Milliseconds(1050));
  EXPECT_EQ(machine_.resumes, 3);
  EXPECT_THAT(looks, ElementsAre(absl::Microseconds(1003000), absl::Microseconds(1010040),
                                 absl::Microseconds(1041040)));
  listener_ = absl::UnavailableError("nobody listens");
  machine_.events.push_back({MachineEvent::Kind::kRendezvous, {}});
  EXPECT_TRUE(absl::IsUnavailable(session_->Step().status()));
}

TEST_F(SessionTest, TheFirstStepBeginsOnce) {
  Guest().Write(Reached(v1::READY));
  machine_.guest_time = absl::Seconds(1);
  RingBell(window::kDoorbellFirstStep);
  EXPECT_FALSE(Step());
  RingBell(window::kDoorbellFirstStep);
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "it rang the bell for 6");
}

// Nobody runs steps on the way to a snapshot.
TEST_F(SessionTest, NoFirstStepBeforeASnapshot) {
  Make(window::kDoorbellAttached);
  Guest().Write(Reached(v1::READY));
  machine_.guest_time = absl::Seconds(1);
  RingBell(window::kDoorbellFirstStep);
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "it rang the bell for 6");
  EXPECT_EQ(machine_.rendezvous, absl::InfiniteDuration());
}

TEST_F(SessionTest, ARendezvousThatNobodyAskedFor) {
  machine_.events.push_back({MachineEvent::Kind::kRendezvous, {}});
  ExpectEnd(v1::VmEnd::ENGINE_FAILED, "a rendezvous that nobody asked for");
}

TEST_F(SessionTest, TimeLimit) {
  clock_.Advance(absl::Seconds(9));
  EXPECT_FALSE(Step());
  clock_.Advance(absl::Seconds(1));
  ExpectEnd(v1::VmEnd::TIMEOUT, "time limit of 10s");
}

TEST_F(SessionTest, FramesBeforeADeathAreKept) {
  Guest().Write(Mark(v1::StepMark::BEGIN));
  machine_.events.push_back({MachineEvent::Kind::kEnded, "killed by signal 9"});
  ExpectEnd(v1::VmEnd::ENGINE_FAILED, "signal 9");
  EXPECT_EQ(observations_.size(), 1u);
}

TEST_F(SessionTest, ConsoleIsToldInWholeLines) {
  Print("one\ntwo\nthr");
  EXPECT_FALSE(Step());
  EXPECT_THAT(console_, ElementsAre("one\ntwo\n"));
  EXPECT_FALSE(Step());
  Print("ee\xff\nfour");
  EXPECT_FALSE(Step());
  EXPECT_THAT(console_, ElementsAre("one\ntwo\n", "three\xef\xbf\xbd\n"));
  Ring(window::kDoorbellDone);
  ASSERT_TRUE(Step());
  ASSERT_EQ(console_.size(), 3u);
  EXPECT_EQ(console_[2], "four");
}

TEST_F(SessionTest, LongConsoleIsToldInPiecesUpToItsCap) {
  Print(std::string(20'000, 'x') + "\n");
  EXPECT_FALSE(Step());
  std::string told;
  for (const std::string& piece : console_) {
    EXPECT_LE(piece.size(), size_t{32} << 10);
    told += piece;
  }
  EXPECT_EQ(told, std::string(20'000, 'x') + "\n");
  Print(std::string(Console::kCap, 'y'));
  ASSERT_TRUE(Step());
  told.clear();
  for (const std::string& piece : console_) told += piece;
  EXPECT_GE(told.size(), Console::kCap);
  EXPECT_LE(told.size(), Console::kCap + (8 << 10));
}

// The terminal of `--dmesg` sees why it ended, too.
TEST_F(SessionTest, TheEndOfAConsoleOverItsCapIsTold) {
  const std::string flood(size_t{1} << 20, 'y');
  Print("first\n");
  for (int i = 0; i < 3; ++i) Print(flood + "\n");
  EXPECT_FALSE(Step());
  for (int i = 0; i < 3; ++i) Print(flood + "\n");
  Print("last words\n");
  ASSERT_TRUE(Step());
  std::string told;
  for (const std::string& piece : console_) told += piece;
  EXPECT_THAT(told, ::testing::StartsWith("first\n"));
  EXPECT_THAT(told, ::testing::EndsWith("y\nlast words\n"));
  // 6 floods, 7 line ends and the words, without 3 MiB and 1 MiB.
  const uint64_t all = 6 * flood.size() + 6 + 6 + 11;
  EXPECT_THAT(told, HasSubstr(absl::StrCat("\n[", all - Console::kCap,
                                           " bytes of output are left out here]\n")));
}

TEST_F(SessionTest, AConsoleBelowItsCapIsToldWhole) {
  const std::string text = std::string(Console::kCap - 7, 'y') + "\nlast";
  Print(text);
  EXPECT_FALSE(Step());
  Ring(window::kDoorbellDone);
  ASSERT_TRUE(Step());
  std::string told;
  for (const std::string& piece : console_) told += piece;
  EXPECT_EQ(told == text, true);
}

TEST_F(SessionTest, ConsoleFlood) {
  ASSERT_EQ(ftruncate(machine_.GuestConsole().fd(), Console::kCap + 1), 0);
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "console flood: more than 4 MiB");
  EXPECT_TRUE(session_->end().console_truncated());
}

TEST_F(SessionTest, EngineKilledByItsFileSizeLimitIsTheGuestsFlood) {
  ASSERT_EQ(ftruncate(machine_.GuestConsole().fd(), Console::kHardLimit), 0);
  machine_.events.push_back({MachineEvent::Kind::kEnded, "killed by signal 25"});
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "console flood");
}

TEST_F(SessionTest, RingFlood) {
  testing::RingWriter guest = Guest();
  v1::Observation o;
  o.mutable_scheduler_output()->set_data(std::string(40000, 'x'));
  const std::string payload = o.SerializeAsString();
  const uint64_t span = window::FrameSpan(payload.size());
  bool ended = false;
  for (uint64_t sent = 0; !ended && sent < 2 * kMaxRingBytes;) {
    for (int i = 0; i < 40; ++i, sent += span) guest.Write(payload);
    ended = Step();
  }
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "ring flood: more than 64 MiB");
}

TEST_F(SessionTest, GarbageInAFrame) {
  Guest().Write("\xff\xff\xff");
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "frame 0 holds no valid observation");
}

TEST_F(SessionTest, GuestCannotPlayTheHost) {
  v1::Observation o;
  o.mutable_vm_end()->set_cause(v1::VmEnd::DONE);
  Guest().Write(o.SerializeAsString());
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "pretends to come from the host");
  EXPECT_TRUE(observations_.empty());
}

TEST_F(SessionTest, GarbageInTheHeader) {
  Guest().header()->head = ~uint64_t{0};
  Guest().header()->stage = 4000000000U;
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "more than one ring ahead");
  EXPECT_EQ(session_->end().last_stage(), v1::STAGE_UNSPECIFIED);
}

TEST_F(SessionTest, WrongDoorbell) {
  Ring(4);
  ExpectEnd(v1::VmEnd::GUEST_MISBEHAVED, "unknown doorbell 4");
}

TEST_F(SessionTest, CancelledOnce) {
  session_->Cancel("Ctrl-C");
  session_->Cancel("again");
  ExpectEnd(v1::VmEnd::CANCELLED, "Ctrl-C");
}

TEST_F(SessionTest, ListenerGoneIsAnError) {
  listener_ = absl::UnavailableError("the peer is gone");
  Guest().Write(Mark(v1::StepMark::BEGIN));
  EXPECT_TRUE(absl::IsUnavailable(session_->Step().status()));
}

TEST_F(SessionTest, BinaryConsoleBecomesText) {
  Print("good\n\xff\x1b[31mred\n" + std::string(100000, 'y'));
  session_->Cancel("x");
  ExpectEnd(v1::VmEnd::CANCELLED, "x");
  EXPECT_LT(session_->end().console_tail().size(), size_t{64} << 10);
}

}  // namespace
}  // namespace ktstr::vmm
