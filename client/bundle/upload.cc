// SPDX-License-Identifier: Apache-2.0
#include "client/bundle/upload.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "client/call.h"
#include "client/connect.h"

namespace ktstr::client {
namespace {

constexpr size_t kPiece = size_t{1} << 20;

// Reads a piece at `offset`; short only at the end of the file.
absl::StatusOr<std::string> ReadPiece(int fd, uint64_t offset, uint64_t left,
                                      const std::string& path) {
  std::string data(std::min<uint64_t>(kPiece, left), '\0');
  KTSTR_ASSIGN_OR_RETURN(const size_t got,
                         base::ReadAt(fd, data.data(), data.size(), offset, path));
  if (got < data.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": became shorter during the upload. Start again"));
  }
  return data;
}

absl::Status PutOne(const Session& session, const BundleFile& file,
                    const std::function<void(uint64_t)>& sent) {
  KTSTR_ASSIGN_OR_RETURN(const base::UniqueFd fd, base::Open(file.path, O_RDONLY));
  GuardedCall call(session.interrupt_fd(), kCallLimit);
  v1::PutBlobResponse response;
  const std::shared_ptr<Connection> connection = session.connection();
  const auto writer = connection->stub()->PutBlob(call.context(), &response);
  uint64_t offset = 0;
  bool open = true;
  while (open && (offset < file.ref.size() || offset == 0)) {
    v1::PutBlobRequest request;
    if (offset == 0) {
      request.set_sha256(file.ref.sha256());
      request.set_size(file.ref.size());
    }
    absl::StatusOr<std::string> piece =
        ReadPiece(fd.get(), offset, file.ref.size() - offset, file.path);
    if (!piece.ok()) {
      call.context()->TryCancel();
      writer->Finish().ok();  // Only "cancelled"; `piece` has the reason.
      return piece.status();
    }
    offset += piece->size();
    request.set_data(*std::move(piece));
    open = writer->Write(request);
    if (open) sent(request.data().size());
    call.Progress();
    if (file.ref.size() == 0) break;
  }
  if (open) writer->WritesDone();
  absl::Status status = call.Finish(writer->Finish());
  if (absl::IsCancelled(status)) return status;
  return base::Annotate(status, absl::StrCat("upload of ", file.path));
}

}  // namespace

absl::Status UploadFiles(const Session& session, const std::vector<BundleFile>& files,
                         const std::function<void(uint64_t sent, uint64_t total)>& progress) {
  if (files.empty()) return absl::OkStatus();
  std::map<std::string, const BundleFile*> by_digest;
  for (const BundleFile& file : files) by_digest.emplace(file.ref.sha256(), &file);
  v1::FindMissingBlobsRequest request;
  for (const auto& [digest, file] : by_digest) request.add_sha256(digest);
  v1::FindMissingBlobsResponse response;
  {
    GuardedCall call(session.interrupt_fd(), kCallLimit);
    const std::shared_ptr<Connection> connection = session.connection();
    KTSTR_RETURN_IF_ERROR(
        call.Finish(connection->stub()->FindMissingBlobs(call.context(), request, &response)));
  }
  uint64_t total = 0, done = 0;
  for (const std::string& digest : response.missing()) {
    const auto found = by_digest.find(digest);
    if (found == by_digest.end())
      return absl::InternalError(
          absl::StrCat("the daemon asks for a blob that is not in the bundle: ", digest));
    total += found->second->ref.size();
  }
  for (const std::string& digest : response.missing()) {
    KTSTR_RETURN_IF_ERROR(PutOne(session, *by_digest.at(digest), [&](uint64_t bytes) {
      done += bytes;
      progress(done, total);
    }));
  }
  return absl::OkStatus();
}

absl::Status UploadPlan(const Session& session, const RunPlan& plan, Terminal* terminal) {
  if (plan.files.empty()) return absl::OkStatus();
  return UploadFiles(session, plan.files, [terminal](uint64_t sent, uint64_t total) {
    terminal->Live(absl::StrCat("sending the scheduler and its libraries: ", sent >> 20, " of ",
                                (total + 1048575) >> 20, " MiB"));
  });
}

}  // namespace ktstr::client
