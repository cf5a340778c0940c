// SPDX-License-Identifier: Apache-2.0
#include "client/search/subject.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/pieces.h"
#include "client/render.h"
#include "scenario/plan.h"

namespace ktstr::client {
namespace {

absl::Status CheckFiles(const Session& session, const Subject& subject) {
  v1::FindMissingBlobsRequest request;
  for (const v1::FileRef& file : subject.spec.files()) request.add_sha256(file.sha256());
  if (request.sha256().empty()) return absl::OkStatus();
  v1::FindMissingBlobsResponse response;
  KTSTR_RETURN_IF_ERROR(
      Call(session, &v1::Ktstr::StubInterface::FindMissingBlobs, request, &response));
  if (response.missing().empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      subject.record.run_id(), ": the daemon no longer keeps ", response.missing_size(), " of its ",
      subject.spec.files_size(), " files. Run it again (", subject.record.reproduce(),
      ") and take the new run's id"));
}

}  // namespace

bool IsRunId(const std::string& text) {
  return text.size() > 2 && absl::StartsWith(text, "r-") &&
         text.find_first_not_of("0123456789", 2) == std::string::npos;
}

absl::StatusOr<Subject> MakeSubject(const v1::RunSpec& spec, const v1::RunRecord& record) {
  if (record.verdict() != v1::FAIL || record.findings().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(record.run_id(), " (", record.scenario(), ", seed ", record.variant().seed(),
                     ") ended with ", VerdictName(record.verdict()),
                     "; minimize and explain need a run that failed. `ktstrctl explore` finds "
                     "seeds that fail"));
  }
  Subject subject = {spec, record, KeyOf(record)};
  subject.spec.set_engine(v1::TCG);
  subject.spec.set_cancel_when_unwatched(true);
  subject.spec.set_confirm(false);  // The record has failed already.
  subject.spec.mutable_reproduction()->set_confirm("off");
  subject.spec.mutable_scenario()->set_seed(scenario::SeedOf(spec.scenario()));
  // Without a name, the run might get a newer kernel by now.
  if (!record.variant().kernel().empty()) subject.spec.set_kernel(record.variant().kernel());
  v1::Reproduction* run = subject.spec.mutable_reproduction();
  run->set_deterministic(true);
  run->clear_engine();
  run->set_kernel(subject.spec.kernel());
  run->set_seed(subject.seed());
  // The option that gave it may have been --repeat.
  if (spec.warm() == v1::WARM_ATTACHED) run->set_warm("attached");
  return subject;
}

absl::StatusOr<Subject> SubjectOfRun(const Session& session, const std::string& run_id) {
  v1::GetRunRequest request;
  request.set_run_id(run_id);
  request.set_with_spec(true);
  v1::GetRunResponse response;
  KTSTR_RETURN_IF_ERROR(GetRun(session, request, &response));
  if (!response.has_record()) {
    return absl::FailedPreconditionError(
        absl::StrCat("run ", run_id, " is ", response.summary().state(),
                     ": wait for its end with `ktstrctl attach ", run_id, "`"));
  }
  if (response.record().variant().engine() == "kvm") {
    return absl::FailedPreconditionError(
        absl::StrCat("run ", run_id, " ran under kvm, where a run does not repeat. Make one with ",
                     "--deterministic, or let `ktstrctl explore` find one"));
  }
  KTSTR_ASSIGN_OR_RETURN(Subject subject, MakeSubject(response.spec(), response.record()));
  KTSTR_RETURN_IF_ERROR(CheckFiles(session, subject));
  return subject;
}

bool SameFailure(const Subject& subject, const v1::RunRecord& record) {
  return record.verdict() == v1::FAIL && KeyOf(record).SamePlace(subject.key);
}

absl::StatusOr<bool> UseAttached(Subject* subject, Trials* trials) {
  if (subject->spec.warm() != v1::WARM_BOOT || !subject->spec.scenario().has_scheduler())
    return false;
  v1::RunSpec attached = subject->spec;
  attached.set_warm(v1::WARM_ATTACHED);
  attached.mutable_reproduction()->set_warm("attached");
  KTSTR_ASSIGN_OR_RETURN(const std::vector<v1::RunRecord> records,
                         trials->Run({attached}, "running it from an attached snapshot"));
  if (records[0].timings().start() != v1::Timings::ATTACHED || !SameFailure(*subject, records[0]))
    return false;
  subject->spec = std::move(attached);
  const std::string run_id = subject->record.run_id();
  subject->record = records[0];
  subject->record.set_run_id(run_id);
  return true;
}

absl::Status FailsAgain(Subject* failed, Trials* trials) {
  KTSTR_ASSIGN_OR_RETURN(const bool attached, UseAttached(failed, trials));
  if (attached) return absl::OkStatus();
  const Subject& subject = *failed;
  KTSTR_ASSIGN_OR_RETURN(const std::vector<v1::RunRecord> records,
                         trials->Run({subject.spec}, "running it again"));
  if (SameFailure(subject, records[0])) return absl::OkStatus();
  const FindingKey now = KeyOf(records[0]);
  return absl::InternalError(absl::StrCat(
      subject.record.run_id(), " failed with ", subject.key.PlaceText(), ", but run again (",
      records[0].run_id(), ") it ended with ", VerdictName(records[0].verdict()),
      now.kind.empty() ? "" : absl::StrCat(", ", now.PlaceText()),
      ": the run is not deterministic, or its input has changed. `ktstrctl run … --repeat 5` ",
      "compares runs"));
}

}  // namespace ktstr::client
