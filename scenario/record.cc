// SPDX-License-Identifier: Apache-2.0

#include "scenario/record.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/head_tail.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "scenario/facts.h"
#include "scenario/plan.h"
#include "scenario/topology.h"
#include "scenario/work_types.h"

namespace ktstr::scenario {
namespace {

constexpr size_t kConsoleLines = 20;
constexpr size_t kMaxNamePart = 64;  // NAME_MAX is 255.
constexpr size_t kDigestDigits = 8;  // Of a file name.

uint32_t ToMs(uint64_t ns) {
  return static_cast<uint32_t>(
      std::min<uint64_t>(ns / 1'000'000, std::numeric_limits<uint32_t>::max()));
}

void AddWorker(const v1::WorkerReport& report, const std::vector<DeclaredWorker>& workers,
               v1::RunRecord* record) {
  // Reports of a hostile guest beyond the scenario's workers are a finding, not workers.
  if (report.index() >= workers.size() ||
      static_cast<size_t>(record->workers_size()) >= workers.size()) {
    return;
  }
  v1::WorkerSummary* summary = record->add_workers();
  summary->set_cgroup(workers[report.index()].cgroup);
  summary->set_work_type(std::string(workers[report.index()].work_type));
  summary->set_work_units(report.work_units());
  summary->set_iterations(report.iterations());
  summary->set_cpu_time_ns(report.cpu_time_ns());
  summary->set_wall_time_ns(report.wall_time_ns());
  summary->set_off_cpu_ns(report.off_cpu_ns());
  summary->set_migrations(report.migrations());
  *summary->mutable_cpus_used() = report.cpus_used();
  summary->set_max_gap_ms(ToMs(report.max_gap_ns()));
}

void AddVmEnd(const v1::VmEnd& end, v1::RunRecord* record) {
  record->set_guest_digest(end.guest_digest());
  record->set_engine_version(end.engine_version());
  record->set_turns(end.turns());
  record->set_vcpu_mips(end.vcpu_mips());
  record->set_console_tail(base::PrintableTail(end.console_tail(), kConsoleLines));
  record->set_stage_reached(v1::Stage_Name(end.last_stage()));
  v1::Timings* timings = record->mutable_timings();
  timings->set_start_ms(ToMs(end.host_boot_ns()));
  timings->set_attach_ms(ToMs(end.host_attach_ns()));
  timings->set_scenario_ms(ToMs(end.host_scenario_ns()));
  timings->set_teardown_ms(ToMs(end.host_teardown_ns()));
}

void AddSchedulerExit(const v1::SchedulerExit& exit, v1::RunRecord* record) {
  if (record->has_scheduler_end()) return;
  v1::SchedulerEnd* end = record->mutable_scheduler_end();
  end->set_cause(exit.cause());
  end->set_exit_code(exit.exit_code());
  end->set_signal(exit.signal());
  end->set_killed(exit.killed());
  end->set_still_running(exit.still_running());
  end->set_stop_ms(ToMs(exit.stop_ns()));
  end->set_fault(StopFault(exit));
}

void AddRestart(const v1::SchedulerRestart& restart, v1::RunRecord* record) {
  v1::SchedulerRestarts* restarts = record->mutable_scheduler_restarts();
  const uint32_t ms = ToMs(restart.length_ns());
  restarts->set_count(restarts->count() + 1);
  restarts->set_longest_ms(std::max(restarts->longest_ms(), ms));
  restarts->set_total_ms(restarts->total_ms() + ms);
  restarts->set_unfinished(restart.unfinished());
}

void FillIdentity(const v1::Scenario& scenario, v1::RunRecord* record) {
  record->set_schema_version(1);
  record->set_scenario(scenario.name());
  record->set_scenario_digest(ScenarioDigest(scenario));
  v1::Variant* variant = record->mutable_variant();
  if (auto topology = Topology::FromProto(scenario.topology()); topology.ok()) {
    variant->set_topology(topology->Label());
  }
  variant->set_profile("default");
  variant->set_work_type(WorkTypes(scenario));
  variant->set_seed(SeedOf(scenario));
  if (scenario.has_scheduler()) {
    record->mutable_scheduler()->set_name(std::string(base::Basename(scenario.scheduler().name())));
  }
}

}  // namespace

std::string ScenarioDigest(const v1::Scenario& scenario) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    scenario.SerializeWithCachedSizes((scenario.ByteSizeLong(), &coded));
  }
  return base::Sha256Hex(bytes);
}

std::string FileNamePart(std::string text) {
  if (text.size() > kMaxNamePart) text.resize(kMaxNamePart);
  for (char& c : text) {
    if (!absl::ascii_isalnum(c) && c != '_' && c != '.' && c != '-' && c != '+') c = '_';
  }
  if (text.empty() || text[0] == '.') text.insert(0, "_");
  return text;
}

std::string RecordFileName(const v1::RunRecord& record, int repetition) {
  const v1::Variant& variant = record.variant();
  base::Sha256 digest;
  for (const std::string& part : {record.scenario_digest(), variant.profile(), variant.kernel()}) {
    digest.Update(part);
    digest.Update("\0", 1);
  }
  std::string name = FileNamePart(record.scenario());
  if (!record.scheduler().name().empty()) {
    absl::StrAppend(&name, "-", FileNamePart(record.scheduler().name()));
  }
  return absl::StrCat(name, "-", FileNamePart(variant.topology()), "-",
                      FileNamePart(variant.engine()), "-s", variant.seed(), "-",
                      digest.FinishHex().substr(0, kDigestDigits),
                      repetition > 1 ? absl::StrCat("-", repetition) : "", ".ktstr.json");
}

void FillRecord(const v1::Scenario& scenario, const std::vector<v1::Observation>& observations,
                const v1::Judgement& judgement, v1::RunRecord* record) {
  FillIdentity(scenario, record);
  record->set_verdict(judgement.verdict());
  *record->mutable_findings() = judgement.findings();
  record->clear_workers();
  record->clear_scheduler_end();
  const std::vector<DeclaredWorker> workers = DeclaredWorkers(scenario);
  v1::Stage stage = v1::STAGE_UNSPECIFIED;
  base::HeadTail log(base::kOutputHead, base::kOutputTail);
  const v1::VmEnd* end = nullptr;
  uint64_t attach_from_ns = 0;
  uint64_t attach_to_ns = 0;
  for (const v1::Observation& observation : observations) {
    switch (observation.fact_case()) {
      case v1::Observation::kStage:
        if (v1::Stage_IsValid(observation.stage().stage()))
          stage = std::max(stage, observation.stage().stage());
        if (observation.stage().stage() == v1::SCHEDULER_STARTED)
          attach_from_ns = observation.guest_time_ns();
        if (observation.stage().stage() == v1::SCHEDULER_ENABLED)
          attach_to_ns = observation.guest_time_ns();
        break;
      case v1::Observation::kGuestInfo:
        record->set_kernel_version(observation.guest_info().kernel_release());
        record->set_kernel_cmdline(observation.guest_info().kernel_cmdline());
        break;
      case v1::Observation::kSchedulerOutput:
        log.Skip(observation.scheduler_output().dropped_bytes());
        log.Append(observation.scheduler_output().data());
        break;
      case v1::Observation::kSchedulerExit:
        AddSchedulerExit(observation.scheduler_exit(), record);
        break;
      case v1::Observation::kSchedulerRestart:
        AddRestart(observation.scheduler_restart(), record);
        break;
      case v1::Observation::kWorkerReport:
        AddWorker(observation.worker_report(), workers, record);
        break;
      case v1::Observation::kChannelStats:
        *record->mutable_channel() = observation.channel_stats();
        break;
      case v1::Observation::kVmEnd:
        if (end == nullptr) end = &observation.vm_end();
        break;
      default:
        break;
    }
  }
  // A guest can send any times.
  const uint64_t attach_ns = attach_to_ns - std::min(attach_to_ns, attach_from_ns);
  record->mutable_timings()->set_attach_guest_ms(ToMs(attach_ns));
  record->clear_after_done();
  if (end != nullptr) AddVmEnd(*end, record);
  if (end != nullptr && stage >= v1::DONE) record->set_after_done(AfterDoneText(*end));
  // The VM process may have ended before it could report how far the agent came.
  v1::Stage from_end = v1::STAGE_UNSPECIFIED;
  if (!v1::Stage_Parse(record->stage_reached(), &from_end) || from_end < stage) {
    record->set_stage_reached(v1::Stage_Name(stage));
  }
  // SanitizeUtf8 makes invalid text longer, so cut again; 128 bytes are for the line of the first
  // gap.
  record->set_scheduler_log(
      base::CutMiddle(base::SanitizeUtf8(log.Text()), base::kOutputHead + 128, base::kOutputTail));
}

}  // namespace ktstr::scenario
