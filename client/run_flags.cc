// SPDX-License-Identifier: Apache-2.0
#include "client/run_flags.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scenario/checks.h"

namespace ktstr::client {

void AddVariantFlags(CLI::App* command, RunOptions* o) {
  command
      ->add_option("--kernel", o->kernels,
                   "Kernel of the cache by key, version or prefix (else KTSTR_KERNEL); repeatable")
      ->type_name("ID")
      ->allow_extra_args(false);
  command->add_option("--scheduler", o->scheduler, "Scheduler under test instead of the scenario's")
      ->type_name("NAME|PATH");
  command
      ->add_option("--sched-arg", o->scheduler_args,
                   "Argument added to the scheduler's; repeatable")
      ->type_name("ARG")
      ->allow_extra_args(false);
  command->add_option("--topology", o->topology, "Machine of the guest instead of the scenario's")
      ->type_name("N,L,C,T|PRESET");
  command->add_option("--memory-mb", o->memory_mb, "Guest memory")->check(CLI::Range(256, 16384));
  command
      ->add_option("--vcpu-mips", o->vcpu_mips,
                   "Speed of each virtual CPU while all are busy, million instructions a second "
                   "(tcg; 0: as fast as exact time can be)")
      ->check(CLI::Range(2, 1000) | CLI::IsMember({0}));
  command
      ->add_option("--vcpu-turn-us", o->vcpu_turn_us,
                   "Longest turn of a virtual CPU while others wait (tcg; 0: unbounded)")
      ->check(CLI::Range(0, 100000));
  command->add_option("--duration", o->duration, "Length of the scenario, as 500ms or 5s")
      ->type_name("DURATION");
  command->add_option("--workers", o->workers, "Workers of every work group")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--set", o->sets,
                   "Change a field of the scenario, as checks.max_gap_ms=500, "
                   "scheduler.attach_timeout_ms=90000 or step[0].hold.ms=200; repeatable")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  command->add_flag(
      "--strict", o->strict,
      absl::StrCat("Strict thresholds where the scenario sets none: ", scenario::StrictText()));
  command
      ->add_option("--timeout", o->timeout,
                   "Host time that a run may take from the start of its machine")
      ->type_name("DURATION");
}

void AddWarmFlag(CLI::App* command, const char* otherwise, RunOptions* options) {
  command
      ->add_option(
          "--warm", options->warm,
          absl::StrCat("What a run starts from: a snapshot of the booted guest (boot), one "
                       "with the scheduler attached (attached), or neither (off); else ",
                       otherwise))
      ->type_name("boot|attached|off")
      ->check(CLI::IsMember({"boot", "attached", "off"}));
}

void AddRunFlags(CLI::App* app, std::function<void(const RunFlags&)> use) {
  const auto flags = std::make_shared<RunFlags>();
  RunOptions* o = &flags->run;
  CLI::App* run =
      app->add_subcommand("run", "Run scenarios and report pass or fail, with the reasons");
  run->add_option("SCENARIO", o->scenarios,
                  "Scenario files, directories of them (*.ktstr.txtpb), or canned names")
      ->required();
  AddVariantFlags(run, o);
  run->add_option("--engine", o->engine, "What runs the virtual machine")
      ->type_name("auto|kvm|tcg");
  run->add_flag("--deterministic", o->deterministic,
                "Insist on virtual time: tcg, the same result every time");
  run->add_option("--seed", o->seed, "Seed of all randomness in the guest")->type_name("N|random");
  run->add_option("--seed-fork", o->seed_forks,
                  "Another seed from that guest time on, as 500ms:7; repeatable")
      ->type_name("AT:SEED")
      ->allow_extra_args(false);
  run->add_option("--confirm", o->confirm,
                  "Whether a FAIL by nothing but thresholds is confirmed at four times the speed "
                  "and by other seeds (tcg)")
      ->type_name("auto|off")
      ->check(CLI::IsMember({"auto", "off"}));
  run->add_option("--repeat", o->repeat,
                  "Runs of each variant; under tcg, all must leave the same guest memory")
      ->check(CLI::Range(1, 10000));
  run->add_option("-j,--jobs", flags->jobs, "Runs in flight at once")->check(CLI::Range(1, 256));
  run->add_option("--junit", flags->junit, "Write a JUnit report")->type_name("FILE");
  run->add_flag("--ktap", flags->ktap, "KTAP version 1 on stdout");
  run->add_option("-o,--output", flags->output_directory,
                  "Write each record there (else KTSTR_SIDECAR_DIR)")
      ->type_name("DIR");
  AddWarmFlag(run, "boot, and with --repeat attached", o);
  run->add_flag_callback(
      "--no-warm", [o] { o->warm = "off"; }, "The same as --warm off");
  run->add_flag(
      "--dmesg", o->dmesg,
      "Show the guest's kernel log on stderr while it runs (with --warm off: from its boot on)");
  CLI::Option* reuse = run->add_flag("--reuse", flags->reuse,
                                     "Print the result of an earlier run of yours where it would "
                                     "repeat (tcg; PASS and FAIL only)");
  run->add_flag_callback(
         "--fresh", [flags] { flags->reuse = false; },
         "Make every run, also one that would repeat (the default)")
      ->excludes(reuse);
  run->add_flag("--detach", o->detach, "Submit, print the ids and leave");
  run->add_flag("--skip-is-failure", flags->policy.skip_is_failure,
                "Exit with 1 when a run was skipped");
  run->add_flag("--inconclusive-is-failure", flags->policy.inconclusive_is_failure,
                "Exit with 1 when a run was inconclusive");
  run->footer(
      "KTSTR_SCHEDULER names the program of schedulers that a scenario file names without a "
      "path.\n\n"
      "Example:\n  ktstrctl run steady --topology tiny-2llc --duration 1s");
  run->callback([flags, use = std::move(use)] { use(*flags); });
}

}  // namespace ktstr::client
