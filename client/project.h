// SPDX-License-Identifier: Apache-2.0
//
// The user's project, as records name it.

#ifndef KTSTR_CLIENT_PROJECT_H_
#define KTSTR_CLIENT_PROJECT_H_

#include <string>

namespace ktstr::client {

// 7 hex digits of the commit that `directory` is at, "-dirty" appended when tracked files differ;
// "unknown" outside git or without the program git. Any thread.
std::string ProjectCommit(const std::string& directory);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_PROJECT_H_
