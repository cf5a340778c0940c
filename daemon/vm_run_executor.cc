// SPDX-License-Identifier: Apache-2.0
#include "daemon/vm_run_executor.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "base/wait_scope.h"
#include "daemon/caller.h"
#include "daemon/engine_choice.h"
#include "daemon/fingerprint.h"
#include "daemon/record_files.h"
#include "daemon/run_progress.h"
#include "daemon/run_store.h"
#include "daemon/spec_check.h"
#include "scenario/confirm.h"
#include "scenario/evaluate.h"
#include "scenario/finding_kinds.h"
#include "scenario/plan.h"
#include "scenario/record.h"
#include "scenario/reproduce.h"
#include "vmm/bundle.h"
#include "vmm/engine.h"

namespace ktstr::daemon {
namespace {

uint32_t Ms(absl::Duration duration) {
  return static_cast<uint32_t>(
      std::clamp<int64_t>(absl::ToInt64Milliseconds(duration), 0, UINT32_MAX));
}

// The harness failed before a machine ran: there are no observations for Evaluate.
v1::Judgement HarnessError(const absl::Status& status) {
  v1::Judgement judgement;
  judgement.set_verdict(v1::ERROR);
  v1::Finding* finding = judgement.add_findings();
  scenario::SetKind(scenario::FindingKind::kHarness, finding);
  finding->set_message(base::SanitizeUtf8(
      status.message().empty() ? status.ToString() : std::string(status.message())));
  return judgement;
}

// RunRecord.vcpu_mips
uint32_t SpeedOf(const std::vector<v1::Observation>& observations) {
  for (const v1::Observation& observation : observations) {
    if (observation.has_vm_end()) return observation.vm_end().vcpu_mips();
  }
  return 0;
}

// For a machine within a run that has told its phases already.
class InnerReporter : public RunReporter {
 public:
  explicit InnerReporter(const RunReporter* outer) : outer_(outer) {}
  void Phase(v1::RunPhase::Phase phase, const std::string& detail) override {}
  void Progress(const v1::RunProgress& progress) override {}
  void Console(const std::string& text) override {}
  int stop_fd() const override { return outer_->stop_fd(); }
  std::optional<StopRequest> stop() const override { return outer_->stop(); }

 private:
  const RunReporter* const outer_;
};

// What the daemon knows of a run before any machine runs.
v1::RunRecord StartRecord(const RunJob& job, absl::Time start) {
  v1::RunRecord record;
  record.set_run_id(RunId(job.number));
  scenario::SetReproduction(job.spec.reproduction(), &record);
  record.set_project_commit(job.spec.project_commit().empty() ? "unknown"
                                                              : job.spec.project_commit());
  record.set_run_source(job.spec.run_source().empty() ? "local" : job.spec.run_source());
  record.set_start_time(absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", start, absl::UTCTimeZone()));
  return record;
}

void FillSchedulerDigest(const v1::RunSpec& spec, v1::RunRecord* record) {
  for (const v1::FileRef& file : spec.files()) {
    if (file.guest_path() == spec.scheduler_path()) {
      record->mutable_scheduler()->set_digest(file.sha256());
    }
  }
}

absl::StatusOr<std::unique_ptr<cache::BlobHold>> HoldFiles(cache::BlobStore* blobs,
                                                           const v1::RunSpec& spec) {
  std::vector<std::string> names;
  for (const v1::FileRef& file : spec.files()) names.push_back(file.sha256());
  auto hold = blobs->Hold(names);
  if (!absl::IsNotFound(hold.status())) return hold;
  const std::vector<std::string> missing = blobs->FindMissing(names);
  for (const v1::FileRef& file : spec.files()) {
    if (std::find(missing.begin(), missing.end(), file.sha256()) == missing.end()) continue;
    return base::Annotate(hold.status(), absl::StrCat("file ", file.guest_path()));
  }
  return hold.status();
}

}  // namespace

// What is known so far of one run.
struct VmRunExecutor::Course {
  absl::Duration began;
  std::optional<cache::ResolvedKernel> kernel;
  v1::Engine engine = v1::TCG;
  v1::Timings::Start start = v1::Timings::BOOT;
  absl::Duration kernel_time;
  absl::Duration before_engine;  // From the kernel to the start of ktstr-vm.
  std::vector<v1::Observation> observations;
  std::vector<v1::Confirmation> confirmations;
  std::string inputs;    // MachineRunner::Outcome::inputs
  bool as_asked = true;  // MachineRunner::Outcome::as_asked
  bool exact = false;    // Of all machines that have a part in the verdict.
};

absl::Status VmRunExecutor::ResolveKernel(const RunJob& job, RunReporter& reporter,
                                          Course* course) {
  const absl::Duration begin = base::RealClock()->Monotonic();
  const base::WaitScope waits([&reporter] { return reporter.stop().has_value(); },
                              [&reporter](const std::string& text) {
                                v1::RunProgress line;
                                line.set_text(text);
                                reporter.Progress(line);
                              });
  KTSTR_ASSIGN_OR_RETURN(course->kernel,
                         kernels_->Resolve(job.spec.kernel(), job.spec.scenario().has_scheduler()));
  course->kernel_time = base::RealClock()->Monotonic() - begin;
  reporter.Phase(v1::RunPhase::KERNEL, course->kernel->why);
  return absl::OkStatus();
}

absl::StatusOr<MachineRunner::Bundles> VmRunExecutor::MakeBundles(const RunJob& job, bool files) {
  // A daemon of another version may have accepted and stored it.
  KTSTR_RETURN_IF_ERROR(CheckRunSpec(job.spec));
  KTSTR_ASSIGN_OR_RETURN(const v1::GuestPlan plan,
                         scenario::MakeGuestPlan(job.spec.scenario(), job.spec.scheduler_path()));
  KTSTR_ASSIGN_OR_RETURN(cache::BlobStore * blobs, blobs_->Of(job.uid));
  // Again, for a run that was taken up without its claim.
  KTSTR_ASSIGN_OR_RETURN(const std::unique_ptr<cache::BlobHold> hold, HoldFiles(blobs, job.spec));
  const auto bundle = [&](const v1::GuestPlan& with, bool with_files) {
    vmm::BundleBuilder builder;
    builder.AddData("plan.pb", with.SerializeAsString(), 0644);
    for (const v1::FileRef& file : job.spec.files()) {
      if (!with_files) break;
      builder.AddFile(file.guest_path(), hold->sizes().at(file.sha256()),
                      file.executable() ? 0755 : 0644,
                      [blobs, &file] { return blobs->OpenBlob(file.sha256()); });
    }
    return builder;
  };
  MachineRunner::Bundles bundles;
  vmm::BundleBuilder whole = bundle(plan, /*with_files=*/true);
  KTSTR_ASSIGN_OR_RETURN(bundles.bytes, whole.Bytes(kMaxArchiveBytes));
  if (files) {
    KTSTR_ASSIGN_OR_RETURN(bundles.whole, whole.Finish(kMaxArchiveBytes));
  }
  bundles.content = BundleContent(job.spec, plan);
  if (job.spec.warm() != v1::WARM_ATTACHED || !plan.has_scheduler()) return bundles;
  const v1::GuestPlan attach = scenario::MakeAttachPlan(plan);
  MachineRunner::Bundles::Attached& attached = bundles.attached.emplace();
  attached.identity = AttachedIdentity(job.uid, job.spec, attach);
  attached.label = absl::StrCat(plan.scheduler().display_name(), " attached");
  if (!files) return bundles;
  KTSTR_ASSIGN_OR_RETURN(attached.attach,
                         bundle(attach, /*with_files=*/true).Finish(kMaxArchiveBytes));
  KTSTR_ASSIGN_OR_RETURN(attached.plan,
                         bundle(plan, /*with_files=*/false).Finish(kMaxArchiveBytes));
  return bundles;
}

absl::StatusOr<std::unique_ptr<RunClaim>> VmRunExecutor::Claim(uid_t uid, const v1::RunSpec& spec) {
  struct Held : RunClaim {
    explicit Held(std::unique_ptr<cache::BlobHold> blobs) : blobs(std::move(blobs)) {}
    const std::unique_ptr<cache::BlobHold> blobs;
  };
  KTSTR_ASSIGN_OR_RETURN(cache::BlobStore * blobs, blobs_->Of(uid));
  KTSTR_ASSIGN_OR_RETURN(std::unique_ptr<cache::BlobHold> hold, HoldFiles(blobs, spec));
  KTSTR_RETURN_IF_ERROR(CheckFileSizes(spec, hold->sizes()));
  return std::make_unique<Held>(std::move(hold));
}

std::string VmRunExecutor::Programs() const { return ProgramsIdentity(vm_program_).value_or(""); }

absl::StatusOr<std::string> VmRunExecutor::FingerprintOf(uid_t uid, const v1::RunSpec& spec) {
  const base::WaitScope waits([] { return true; });
  KTSTR_ASSIGN_OR_RETURN(const cache::ResolvedKernel kernel,
                         kernels_->Resolve(spec.kernel(), spec.scenario().has_scheduler()));
  KTSTR_ASSIGN_OR_RETURN(const EngineChoice engine, ChooseEngine(spec.engine(), kKvmDevice));
  const RunJob job = {.uid = uid, .spec = spec};
  KTSTR_ASSIGN_OR_RETURN(const MachineRunner::Bundles bundles, MakeBundles(job, /*files=*/false));
  KTSTR_ASSIGN_OR_RETURN(const std::string inputs,
                         machines_.Inputs(job, kernel, engine.engine, bundles));
  const std::string programs = Programs();
  return inputs.empty() || programs.empty() ? "" : Fingerprint(inputs, programs, spec);
}

absl::Status VmRunExecutor::RunMachine(const RunJob& job, const cache::ResolvedKernel& kernel,
                                       RunReporter& reporter, Course* course) {
  const absl::Duration begin = base::RealClock()->Monotonic();
  KTSTR_ASSIGN_OR_RETURN(const EngineChoice engine, ChooseEngine(job.spec.engine(), kKvmDevice));
  course->engine = engine.engine;
  KTSTR_ASSIGN_OR_RETURN(const MachineRunner::Bundles bundles, MakeBundles(job, /*files=*/true));
  course->before_engine = base::RealClock()->Monotonic() - begin;
  RunProgress progress(job.spec.scenario(), &reporter);
  const VmListener listener = {
      .observation = [&progress](const v1::Observation& seen) { progress.Observe(seen); },
      .progress = [&progress](const v1::VmProgress& said) { progress.Say(said.text()); },
      .console = [&reporter](const std::string& text) { reporter.Console(text); },
      .snapshot = {}};
  KTSTR_ASSIGN_OR_RETURN(
      MachineRunner::Outcome outcome,
      machines_.Run(job, kernel, engine.engine, engine.why, bundles, reporter, listener));
  course->before_engine += outcome.before_engine;
  course->start = outcome.start;
  course->observations = std::move(outcome.observations);
  course->inputs = std::move(outcome.inputs);
  course->as_asked = outcome.as_asked;
  course->exact = IsExact(course->observations);
  return absl::OkStatus();
}

v1::Judgement VmRunExecutor::Confirm(const RunJob& job, const v1::Judgement& judgement,
                                     RunReporter& reporter, Course* course) {
  InnerReporter inner(&reporter);
  const uint32_t ran_at = SpeedOf(course->observations);
  const std::vector<v1::Scenario> scenarios =
      scenario::ConfirmingScenarios(job.spec.scenario(), ran_at);
  for (const v1::Scenario& scenario : scenarios) {
    v1::RunProgress line;
    line.set_text(absl::StrCat("confirming the findings at ", scenario.vcpu_mips(),
                               " MIPS a CPU, seed ", scenario::SeedOf(scenario)));
    reporter.Progress(line);
    RunJob again = job;
    *again.spec.mutable_scenario() = scenario;
    Course other;
    const absl::Status ran = RunMachine(again, *course->kernel, inner, &other);
    if (const std::optional<StopRequest> stop = reporter.stop(); stop.has_value()) {
      course->observations = {StopObservation(*stop)};
      course->exact = false;
      return scenario::Evaluate(job.spec.scenario(), course->observations);
    }
    // The runs that confirm have no fingerprint of their own: they are those of its start.
    course->exact = course->exact && course->as_asked && other.exact && other.as_asked;
    v1::Confirmation& confirmation = course->confirmations.emplace_back();
    if (ran.ok()) {
      confirmation = scenario::MakeConfirmation(judgement, scenario, other.observations);
    } else {
      confirmation.set_seed(scenario::SeedOf(scenario));
      confirmation.set_verdict(v1::ERROR);
      *confirmation.mutable_findings() = HarnessError(ran).findings();
    }
    if (scenario::ShowsAll(judgement, confirmation)) break;
  }
  return scenario::Confirmed(judgement, ran_at, course->confirmations);
}

RunOutcome VmRunExecutor::Execute(const RunJob& job, RunReporter& reporter) {
  const std::string programs = Programs();
  Course course;
  course.began = base::RealClock()->Monotonic();
  const absl::Time start = absl::Now();
  absl::Status status = ResolveKernel(job, reporter, &course);
  // A stop during ResolveKernel.
  if (const std::optional<StopRequest> stop = reporter.stop();
      stop.has_value() && (status.ok() || absl::IsCancelled(status))) {
    status = absl::OkStatus();
    course.observations.push_back(StopObservation(*stop));
  } else if (status.ok()) {
    status = RunMachine(job, *course.kernel, reporter, &course);
  }
  v1::Judgement judgement = status.ok()
                                ? scenario::Evaluate(job.spec.scenario(), course.observations)
                                : HarnessError(status);
  if (job.spec.confirm() && scenario::NeedsConfirmation(judgement)) {
    judgement = Confirm(job, judgement, reporter, &course);
  }
  RunOutcome outcome;
  v1::RunRecord& record = outcome.record;
  record = StartRecord(job, start);
  scenario::FillRecord(job.spec.scenario(), course.observations, judgement, &record);
  FillSchedulerDigest(job.spec, &record);
  record.mutable_variant()->set_engine(vmm::EngineLabel(course.engine));
  v1::Timings* timings = record.mutable_timings();
  timings->set_queue_ms(Ms(start - absl::FromUnixMillis(job.submitted_ms)));
  timings->set_kernel_ms(Ms(course.kernel_time));
  timings->set_start_ms(timings->start_ms() + Ms(course.before_engine));
  timings->set_total_ms(timings->queue_ms() + Ms(base::RealClock()->Monotonic() - course.began));
  timings->set_start(course.start);
  *outcome.observations.mutable_scenario() = job.spec.scenario();
  if (course.kernel.has_value()) {
    record.mutable_variant()->set_kernel(course.kernel->metadata.key());
    record.mutable_variant()->set_kernel_release(course.kernel->metadata.release());
    record.mutable_variant()->set_kernel_source(course.kernel->metadata.source());
    scenario::SetReproduction(job.spec.reproduction(), &record);
    outcome.record_file =
        RecordFiles::PathOf(UserName(job.uid), course.kernel->metadata.release(), record);
  }
  // A program that was replaced meanwhile may have run, or not.
  if (course.exact && !course.inputs.empty() && !programs.empty() && programs == Programs()) {
    record.set_fingerprint(Fingerprint(course.inputs, programs, job.spec));
  }
  record.mutable_confirmations()->Assign(course.confirmations.begin(), course.confirmations.end());
  *outcome.observations.mutable_confirmations() = record.confirmations();
  for (v1::Observation& observation : course.observations) {
    *outcome.observations.add_observations() = std::move(observation);
  }
  return outcome;
}

RunOutcome VmRunExecutor::Abandoned(const RunJob& job, const StopRequest& why) {
  RunOutcome outcome;
  *outcome.observations.mutable_scenario() = job.spec.scenario();
  *outcome.observations.add_observations() = StopObservation(why);
  const std::vector<v1::Observation> seen = {outcome.observations.observations(0)};
  const absl::Time now = absl::Now();
  outcome.record = StartRecord(job, absl::FromUnixMillis(job.submitted_ms));
  scenario::FillRecord(job.spec.scenario(), seen, scenario::Evaluate(job.spec.scenario(), seen),
                       &outcome.record);
  FillSchedulerDigest(job.spec, &outcome.record);
  outcome.record.mutable_variant()->set_engine(vmm::EngineLabel(v1::TCG));
  v1::Timings* timings = outcome.record.mutable_timings();
  timings->set_queue_ms(Ms(now - absl::FromUnixMillis(job.submitted_ms)));
  timings->set_total_ms(timings->queue_ms());
  return outcome;
}

}  // namespace ktstr::daemon
