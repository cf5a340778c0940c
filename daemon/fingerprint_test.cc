// SPDX-License-Identifier: Apache-2.0
#include "daemon/fingerprint.h"

#include <functional>
#include <set>

#include "base/file.h"
#include "base/sha256.h"
#include "daemon/machine_runner.h"
#include "gtest/gtest.h"
#include "scenario/evaluate.h"
#include "scenario/plan.h"

namespace ktstr::daemon {
namespace {

v1::RunSpec Spec() {
  v1::RunSpec spec;
  v1::Scenario* scenario = spec.mutable_scenario();
  scenario->set_name("fake");
  scenario->mutable_topology()->set_preset("tiny-1llc");
  scenario->mutable_scheduler()->set_name("scx_mine");
  v1::Cgroup* cgroup = scenario->add_step()->add_cgroup();
  cgroup->set_name("left");
  cgroup->add_work()->mutable_spin_wait();
  for (const char* path : {"bin/scx_mine", "lib/libelf.so.1"}) {
    v1::FileRef* file = spec.add_files();
    file->set_guest_path(path);
    file->set_sha256(base::Sha256Hex(path));
    file->set_executable(true);
  }
  spec.set_scheduler_path("bin/scx_mine");
  return spec;
}

// As the daemon makes it, of a start from the attached snapshot.
struct Inputs {
  v1::RunSpec spec = Spec();
  std::string machine = "kernel 7.3.4\n";
  std::string programs = "daemon 1\n";
  v1::Timings::Start start = v1::Timings::ATTACHED;
  uid_t uid = 1;
  std::function<void(v1::GuestPlan*)> change_plan;
  std::function<void(v1::VmRun*)> change_run;

  std::string Digest() const {
    v1::GuestPlan plan = *scenario::MakeGuestPlan(spec.scenario(), spec.scheduler_path());
    Execution execution;
    execution.machine = machine;
    execution.start = start;
    execution.attached = AttachedIdentity(uid, spec, scenario::MakeAttachPlan(plan));
    if (change_plan) change_plan(&plan);
    execution.bundle = BundleContent(spec, plan);
    execution.run.set_run_id("r-0001");
    execution.run.set_guest_limit_ms(9000);
    if (change_run) change_run(&execution.run);
    return Fingerprint(ExecutionInputs(execution), programs, spec);
  }
};

TEST(Fingerprint, EveryInputChangesIt) {
  const std::function<void(Inputs*)> changes[] = {
      [](Inputs*) {},
      [](Inputs* in) { in->machine = "kernel 7.3.5\n"; },
      [](Inputs* in) { in->programs = "daemon 2\n"; },
      [](Inputs* in) { in->start = v1::Timings::RESTORE; },
      [](Inputs* in) { in->start = v1::Timings::BOOT; },
      [](Inputs* in) { in->uid = 2; },
      [](Inputs* in) { in->spec.mutable_files(1)->set_sha256(base::Sha256Hex("new")); },
      [](Inputs* in) { in->spec.mutable_files(1)->set_guest_path("lib/libelf.so.2"); },
      [](Inputs* in) { in->spec.mutable_files(1)->set_executable(false); },
      [](Inputs* in) { in->spec.mutable_files()->RemoveLast(); },
      [](Inputs* in) { in->spec.mutable_scenario()->set_seed(7); },
      [](Inputs* in) {
        v1::SeedFork* fork = in->spec.mutable_scenario()->add_seed_fork();
        fork->set_at_ms(500);
        fork->set_seed(3);
      },
      [](Inputs* in) {
        v1::SeedFork* fork = in->spec.mutable_scenario()->add_seed_fork();
        fork->set_at_ms(600);
        fork->set_seed(3);
      },
      [](Inputs* in) { in->spec.mutable_scenario()->mutable_scheduler()->add_args("--slow"); },
      [](Inputs* in) { in->spec.mutable_scenario()->mutable_checks()->set_max_gap_ms(500); },
      [](Inputs* in) { in->spec.mutable_scenario()->set_duration_ms(300); },
      [](Inputs* in) { in->spec.set_confirm(true); },
      [](Inputs* in) { in->change_plan = [](v1::GuestPlan* plan) { plan->set_overrun_ms(1); }; },
      [](Inputs* in) { in->change_run = [](v1::VmRun* run) { run->set_guest_limit_ms(1); }; },
      [](Inputs* in) { in->change_run = [](v1::VmRun* run) { run->set_attach_limit_ms(1); }; },
      [](Inputs* in) { in->change_run = [](v1::VmRun* run) { run->set_vcpu_turn_us(0); }; },
      [](Inputs* in) { in->change_run = [](v1::VmRun* run) { run->set_vcpu_turn_us(50); }; },
  };
  std::set<std::string> digests;
  size_t count = 0;
  for (const auto& change : changes) {
    Inputs inputs;
    change(&inputs);
    EXPECT_TRUE(base::IsSha256Hex(inputs.Digest()));
    EXPECT_TRUE(digests.insert(inputs.Digest()).second) << "change " << count;
    ++count;
  }
}

TEST(Fingerprint, WhatIsNoInputDoesNot) {
  const std::function<void(Inputs*)> changes[] = {
      [](Inputs* in) { in->change_run = [](v1::VmRun* run) { run->set_run_id("r-0002"); }; },
      [](Inputs* in) { in->change_run = [](v1::VmRun* run) { run->set_timeout_ms(1); }; },
      [](Inputs* in) { in->spec.set_timeout_ms(1000); },
      [](Inputs* in) { in->spec.set_project_commit("0123abc"); },
      [](Inputs* in) { in->spec.set_run_source("ci"); },
      [](Inputs* in) { in->spec.set_cancel_when_unwatched(true); },
      [](Inputs* in) { in->spec.mutable_reproduction()->set_scenario("elsewhere/x.ktstr.txtpb"); },
      [](Inputs* in) { in->spec.mutable_files()->SwapElements(0, 1); },  // A bundle is sorted.
  };
  const std::string digest = Inputs().Digest();
  size_t count = 0;
  for (const auto& change : changes) {
    Inputs inputs;
    change(&inputs);
    EXPECT_EQ(inputs.Digest(), digest) << "change " << count;
    ++count;
  }
}

TEST(Fingerprint, ProgramsAreThoseOfNow) {
  const base::TempDir dir = *base::TempDir::Make("fingerprint");
  const std::string path = dir.path() + "/ktstr-vm";
  EXPECT_FALSE(ProgramsIdentity(path).ok());
  ASSERT_TRUE(base::WriteFileAtomic(path, "one").ok());
  const std::string before = *ProgramsIdentity(path);
  EXPECT_EQ(*ProgramsIdentity(path), before);
  ASSERT_TRUE(base::WriteFileAtomic(path, "two").ok());
  EXPECT_NE(*ProgramsIdentity(path), before);
}

std::vector<v1::Observation> Seen(v1::VmEnd::Cause cause, const std::string& turns,
                                  uint64_t full_waits = 0) {
  std::vector<v1::Observation> seen(3);
  seen[0].mutable_step_mark();
  seen[1].mutable_channel_stats()->set_full_waits(full_waits);
  seen[2].mutable_vm_end()->set_cause(cause);
  seen[2].mutable_vm_end()->set_turns(turns);
  if (cause == v1::VmEnd::DONE) seen[2].mutable_vm_end()->set_guest_digest("d");
  return seen;
}

TEST(Fingerprint, ExactRuns) {
  for (const v1::VmEnd::Cause cause :
       {v1::VmEnd::DONE, v1::VmEnd::PANIC, v1::VmEnd::GUEST_HUNG, v1::VmEnd::GUEST_RESET}) {
    EXPECT_TRUE(IsExact(Seen(cause, "100us"))) << cause;
  }
  EXPECT_FALSE(IsExact({})) << "its end was not observed";
  std::vector<v1::Observation> cut = Seen(v1::VmEnd::DONE, "100us");
  cut.back().mutable_vm_end()->set_detail("no digest: the guest did not reach its last doorbell");
  EXPECT_FALSE(IsExact(cut)) << "the host's time may have ended it";
  cut = Seen(v1::VmEnd::DONE, "100us");
  cut.back().mutable_vm_end()->clear_guest_digest();
  EXPECT_FALSE(IsExact(cut));
  cut = Seen(v1::VmEnd::GUEST_HUNG, "100us");
  cut.erase(cut.begin());
  EXPECT_FALSE(IsExact(cut)) << "it hung before its first step";
  EXPECT_FALSE(IsExact(Seen(v1::VmEnd::DONE, "100us", 1))) << "it stopped in its middle";
  EXPECT_FALSE(IsExact(Seen(v1::VmEnd::DONE, ""))) << "kvm";
  EXPECT_FALSE(IsExact(Seen(v1::VmEnd::DONE, std::string(scenario::kUnboundedTurns))));
  for (const v1::VmEnd::Cause cause : {v1::VmEnd::CANCELLED, v1::VmEnd::TIMEOUT,
                                       v1::VmEnd::INTERRUPTED, v1::VmEnd::ENGINE_FAILED}) {
    EXPECT_FALSE(IsExact(Seen(cause, "100us"))) << cause;
  }
}

}  // namespace
}  // namespace ktstr::daemon
