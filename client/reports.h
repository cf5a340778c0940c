// SPDX-License-Identifier: Apache-2.0
//
// Records as JUnit XML, as KTAP version 1, and as our own sidecar files. Escapes the texts of a
// record, which may come from a guest. Any thread.

#ifndef KTSTR_CLIENT_REPORTS_H_
#define KTSTR_CLIENT_REPORTS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

// One <testsuite> with a <testcase> per record. FAIL is a <failure>, ERROR an <error>, SKIP and
// INCONCLUSIVE a <skipped>.
std::string JunitXml(const std::vector<v1::RunRecord>& records);

// "KTAP version 1" and the plan for `count` runs.
std::string KtapHead(size_t count);
// The result line with this number (from 1), after the findings as diagnostic lines.
std::string KtapLine(size_t number, const v1::RunRecord& record);

// Writes records to files named by scenario::RecordFileName. Keeps all records of one variant that
// one command writes, and replaces those of an earlier command. One thread.
class RecordDirectory {
 public:
  explicit RecordDirectory(std::string directory) : directory_(std::move(directory)) {}
  // Makes the directory when it is missing. Atomic; touches no other file there.
  absl::Status Write(const v1::RunRecord& record);

 private:
  const std::string directory_;
  std::map<std::string, int> written_;  // Records by the name of the first.
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_REPORTS_H_
