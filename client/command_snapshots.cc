// SPDX-License-Identifier: Apache-2.0
//
// snapshots list, snapshots clean: the snapshots that warm runs start from.
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/render.h"
#include "scenario/json.h"

namespace ktstr::client {
namespace {

absl::Status PrintSnapshots(const v1::ListSnapshotsResponse& snapshots, const Session& session,
                            bool json, Terminal* terminal) {
  if (json) {
    KTSTR_ASSIGN_OR_RETURN(const std::string text, scenario::ToJson(snapshots, /*pretty=*/false));
    terminal->Machine(absl::StrCat(text, "\n"));
  } else if (snapshots.snapshots().empty()) {
    terminal->Note(absl::StrCat("no snapshot in the cache ",
                                session.connection()->daemon().cache_dir(),
                                ". The first run of a kernel and topology makes one"));
  } else {
    terminal->Result(SnapshotsTable(snapshots, absl::Now()));
  }
  return absl::OkStatus();
}

absl::Status List(const Session& session, const GlobalOptions& global, Terminal* terminal) {
  v1::ListSnapshotsResponse snapshots;
  KTSTR_RETURN_IF_ERROR(CallPages(session, &v1::Ktstr::StubInterface::ListSnapshots,
                                  &v1::ListSnapshotsResponse::snapshots_size, &snapshots));
  return PrintSnapshots(snapshots, session, global.json, terminal);
}

absl::Status Clean(const Session& session, const GlobalOptions& global, Terminal* terminal) {
  v1::CleanSnapshotsResponse response, part;
  {
    GuardedCall call(session.interrupt_fd(), kCallLimit);
    const std::shared_ptr<Connection> connection = session.connection();
    const auto reader =
        connection->stub()->CleanSnapshots(call.context(), v1::CleanSnapshotsRequest());
    while (reader->Read(&part)) response.MergeFrom(part);
    KTSTR_RETURN_IF_ERROR(call.Finish(reader->Finish()));
  }
  if (global.json) {
    KTSTR_ASSIGN_OR_RETURN(const std::string text, scenario::ToJson(response, /*pretty=*/false));
    terminal->Machine(absl::StrCat(text, "\n"));
    return absl::OkStatus();
  }
  uint64_t bytes = 0;
  for (const v1::SnapshotEntry& entry : response.removed()) bytes += entry.disk_bytes();
  const int count = response.removed_size();
  terminal->Result(absl::StrCat(count, count == 1 ? " snapshot" : " snapshots", " removed, ",
                                Bytes(bytes), "\n"));
  return absl::OkStatus();
}

}  // namespace

void AddSnapshotsCommands(CLI::App* app, Action* action) {
  CLI::App* snapshots =
      app->add_subcommand("snapshots", "The booted guests that warm runs start from");
  snapshots->require_subcommand(1);
  snapshots->footer("Example:\n  ktstrctl snapshots list");
  CLI::App* list = snapshots->add_subcommand("list", "Snapshots on disk, used last first");
  list->footer("Example:\n  ktstrctl snapshots list");
  list->callback([action] { *action = WithSession(List); });
  CLI::App* clean = snapshots->add_subcommand(
      "clean", "Remove all of them; the next run of each kernel and topology boots again");
  clean->footer("Example:\n  ktstrctl snapshots clean");
  clean->callback([action] { *action = WithSession(Clean); });
}

}  // namespace ktstr::client
