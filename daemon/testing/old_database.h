// SPDX-License-Identifier: Apache-2.0
#ifndef KTSTR_DAEMON_TESTING_OLD_DATABASE_H_
#define KTSTR_DAEMON_TESTING_OLD_DATABASE_H_

#include <string>

#include "ktstr/v1/service.pb.h"

namespace ktstr::daemon {

// Makes a runs.db of version 1 (run_store.cc has the schema's history): run 3 of user 7, scenario
// "old" with this specification, has finished with PASS and has two events; run 9 was removed.
void MakeVersion1(const std::string& path, const v1::RunSpec& spec);
// The same of version 2.
void MakeVersion2(const std::string& path, const v1::RunSpec& spec);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_TESTING_OLD_DATABASE_H_
