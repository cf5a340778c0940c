// SPDX-License-Identifier: Apache-2.0
//
// A failed run that a command examines: its spec and its failure. Main thread.

#ifndef KTSTR_CLIENT_SEARCH_SUBJECT_H_
#define KTSTR_CLIENT_SEARCH_SUBJECT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/connect.h"
#include "client/search/drive.h"
#include "client/search/finding_key.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

struct Subject {
  v1::RunSpec spec;      // Deterministic, on the kernel that the run had.
  v1::RunRecord record;  // The failed run.
  FindingKey key;

  uint64_t seed() const { return spec.scenario().seed(); }
};

bool IsRunId(const std::string& text);

// A run that the daemon keeps. FailedPrecondition when it did not fail, cannot be repeated (kvm),
// or its files are gone.
absl::StatusOr<Subject> SubjectOfRun(const Session& session, const std::string& run_id);

// `record`: the result of `spec`. FailedPrecondition when the run did not fail.
absl::StatusOr<Subject> MakeSubject(const v1::RunSpec& spec, const v1::RunRecord& record);

// Makes the subject start from an attached snapshot, with the record of a run from there, if it
// fails at its place from there too. True when it does.
absl::StatusOr<bool> UseAttached(Subject* subject, Trials* trials);

// Runs the subject again, from an attached snapshot where that fails too. Internal when it does not
// fail in the same way: the run was not deterministic, or its input has changed.
absl::Status FailsAgain(Subject* subject, Trials* trials);

// The record failed at the subject's place.
bool SameFailure(const Subject& subject, const v1::RunRecord& record);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_SUBJECT_H_
