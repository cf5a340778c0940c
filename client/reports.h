// SPDX-License-Identifier: Apache-2.0
//
// Records in the formats of other tools: JUnit XML, KTAP version 1, and our own sidecar files.
// Texts in a record may come from a guest: they are escaped here. Any thread.

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
// The result line number `number` (from 1) with its findings as diagnostic lines before it.
std::string KtapLine(size_t number, const v1::RunRecord& record);

// Writes records as scenario::RecordFileName names them. Records of one variant that one command
// writes are all kept; those of an earlier command are replaced. One thread.
class RecordDirectory {
 public:
  explicit RecordDirectory(std::string directory) : directory_(std::move(directory)) {}
  // Makes the directory when it is missing; atomic, nothing else there is touched.
  absl::Status Write(const v1::RunRecord& record);

 private:
  const std::string directory_;
  std::map<std::string, int> written_;  // Records by the name of the first.
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_REPORTS_H_
