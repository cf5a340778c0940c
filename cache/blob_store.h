// SPDX-License-Identifier: Apache-2.0
//
// Files that clients send, named by their SHA-256: schedulers, payloads, shared libraries. One
// process (ktstrd) has the store; any thread.
//
//   DIR/SHA256         a whole blob, read-only; its modification time is its last use
//   DIR/.tmp/NAME      one being received
//
// What is to be received makes room in the budget: the least recently used blobs go, but none that
// is held (BlobHold) and none that was used within the last kBlobGrace. A descriptor from OpenBlob
// stays good when its blob goes.

#ifndef KTSTR_CACHE_BLOB_STORE_H_
#define KTSTR_CACHE_BLOB_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/sha256.h"

namespace ktstr::cache {

// A blob that was found or stored stays at least this long, so that it is still there when the run
// that needs it is submitted.
inline constexpr absl::Duration kBlobGrace = absl::Minutes(10);

class BlobStoreState;

// Receives one blob. One thread at a time. May outlive the store.
class BlobWriter {
 public:
  ~BlobWriter();  // Without Commit: removes the temporary file.
  // InvalidArgument when more bytes come than were announced; FailedPrecondition on a full disk.
  absl::Status Append(std::string_view data);
  // InvalidArgument when bytes are missing or the content has another SHA-256. Once.
  absl::Status Commit();

 private:
  friend class BlobStore;
  BlobWriter(std::shared_ptr<BlobStoreState> state, std::string sha256, uint64_t size,
             std::string path, base::UniqueFd fd);

  const std::shared_ptr<BlobStoreState> state_;
  const std::string sha256_;
  const uint64_t size_;
  uint64_t received_ = 0;
  std::string temporary_path_;  // Empty once it is in place.
  base::UniqueFd fd_;
  base::Sha256 digest_;
};

// Keeps blobs from being evicted. One thread at a time. May outlive the store.
class BlobHold {
 public:
  ~BlobHold();
  // Real bytes of each held blob, by name.
  const std::map<std::string, uint64_t>& sizes() const { return sizes_; }

 private:
  friend class BlobStore;
  BlobHold(std::shared_ptr<BlobStoreState> state, std::map<std::string, uint64_t> sizes)
      : state_(std::move(state)), sizes_(std::move(sizes)) {}

  const std::shared_ptr<BlobStoreState> state_;
  const std::map<std::string, uint64_t> sizes_;
};

class BlobStore {
 public:
  // Makes `dir` (0700) and removes what killed receivers left. Evicts nothing: whoever takes queued
  // runs up holds their blobs first. `clock` outlives the store.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(
      const std::string& dir, uint64_t budget_bytes, const base::Clock* clock = base::RealClock());

  // Those of `sha256s` that are not there (malformed names among them), in their order, each once.
  // The others count as used now.
  std::vector<std::string> FindMissing(const std::vector<std::string>& sha256s);
  // All of them, or none: NotFound names the first one that is not there. They count as used now.
  absl::StatusOr<std::unique_ptr<BlobHold>> Hold(const std::vector<std::string>& sha256s);
  // Makes room for `size` bytes. InvalidArgument for a malformed name, ResourceExhausted when blobs
  // that are being received, held or young leave no room in the budget: then nothing is evicted.
  absl::StatusOr<std::unique_ptr<BlobWriter>> Begin(const std::string& sha256, uint64_t size);
  // Read-only, at offset 0. NotFound when it is not there.
  absl::StatusOr<base::UniqueFd> OpenBlob(const std::string& sha256);

 private:
  explicit BlobStore(std::shared_ptr<BlobStoreState> state) : state_(std::move(state)) {}
  const std::shared_ptr<BlobStoreState> state_;
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_BLOB_STORE_H_
