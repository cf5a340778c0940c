// SPDX-License-Identifier: Apache-2.0
//
// Who calls. The only source is the socket (SO_PEERCRED): Server makes one Caller for each user and
// gives it to that user's KtstrService, so that no message can claim another identity. Operations
// on what belongs to a user (runs, blobs, records) take a Caller. A value; any thread.

#ifndef KTSTR_DAEMON_CALLER_H_
#define KTSTR_DAEMON_CALLER_H_

#include <sys/types.h>

#include <string>

namespace ktstr::daemon {

struct Caller {
  uid_t uid = 0;
  std::string user;    // UserName(uid).
  bool admin = false;  // Sees and cancels every user's runs.

  bool MayUse(uid_t owner) const { return admin || owner == uid; }
};

// Name of the account, or "uid-N" when there is none. Safe as a directory's name.
std::string UserName(uid_t uid);

// The caller behind a connection of `uid`; root is an admin.
Caller CallerOf(uid_t uid);

}  // namespace ktstr::daemon

#endif  // KTSTR_DAEMON_CALLER_H_
