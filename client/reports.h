// SPDX-License-Identifier: Apache-2.0
//
// Records in the formats of other tools: JUnit XML, KTAP version 1, and our own sidecar files.
// Texts in a record may come from a guest: they are escaped here. Any thread.

#ifndef KTSTR_CLIENT_REPORTS_H_
#define KTSTR_CLIENT_REPORTS_H_

#include <string>
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

// Name of a record's sidecar: "SCENARIO-RUN.ktstr.json".
std::string SidecarName(const v1::RunRecord& record);
// Writes it into `directory`, which is made when it is missing; atomic, nothing else there is
// touched.
absl::Status WriteSidecar(const std::string& directory, const v1::RunRecord& record);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_REPORTS_H_
