// SPDX-License-Identifier: Apache-2.0
#include "scenario/reproduce.h"

#include <gtest/gtest.h>

namespace ktstr::scenario {
namespace {

TEST(Reproduce, EveryOption) {
  v1::Reproduction run;
  EXPECT_EQ(ReproduceCommand(run), "");
  run.set_scenario("dir/x y.ktstr.txtpb");
  EXPECT_EQ(ReproduceCommand(run), "ktstrctl run 'dir/x y.ktstr.txtpb'");
  run.set_kernel("7.3");
  run.set_scheduler("/home/a b/it's/scx_mine");
  for (const char* arg : {"--slice-us", "", "a'b c\n"}) run.add_scheduler_args(arg);
  run.set_topology("1,2,2,1");
  run.set_memory_mb(512);
  run.set_duration("1s");
  run.set_workers(3);
  run.set_engine("tcg");
  run.set_deterministic(true);
  run.set_seed(42);
  run.add_seed_forks("500ms:7");
  run.add_sets("perturb.intensity=2");
  run.add_sets("checks.max_gap_ms=9");
  run.set_strict(true);
  run.set_warm("off");
  run.set_dmesg(true);
  run.set_timeout("90s");
  run.set_repeat(2);
  run.set_scheduler_program("/home/a b/it's/scx_mine");
  EXPECT_EQ(ReproduceCommand(run),
            "ktstrctl run 'dir/x y.ktstr.txtpb' --kernel 7.3 --scheduler '/home/a b/it'\\''s/"
            "scx_mine' --sched-arg=--slice-us --sched-arg='' --sched-arg='a'\\''b c\n' --topology "
            "1,2,2,1 --memory-mb 512 --duration 1s --workers 3 --engine tcg --deterministic --seed "
            "42 --seed-fork 500ms:7 --set perturb.intensity=2 --set checks.max_gap_ms=9 --strict "
            "--warm off --dmesg --timeout 90s --repeat 2");
}

}  // namespace
}  // namespace ktstr::scenario
