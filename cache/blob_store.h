// SPDX-License-Identifier: Apache-2.0
//
// Files that clients send, named by their SHA-256: schedulers, probes, shared libraries. One
// process (ktstrd) uses a store; any thread.
//
//   DIR/SHA256         a whole blob, read-only; its modification time is its last use
//   DIR/.tmp/NAME      a blob that a client is sending
//
// The store makes room in its budget before it receives a blob: it removes the least recently used
// ones, but none that a BlobHold holds and none used within the last kBlobGrace. A descriptor from
// OpenBlob stays valid after that.

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

// A blob stays at least this long after a client has found or stored it, so that the client can
// submit a run with it.
inline constexpr absl::Duration kBlobGrace = absl::Minutes(10);

class BlobStoreState;

// Receives one blob. One thread at a time. May outlive the store.
class BlobWriter {
 public:
  ~BlobWriter();  // Without Commit: removes the temporary file.
  // InvalidArgument for more bytes than announced; FailedPrecondition on a full disk.
  absl::Status Append(std::string_view data);
  // Stores the blob, durably. InvalidArgument when bytes are missing or the content has another
  // SHA-256. Once.
  absl::Status Commit();

 private:
  friend class BlobStore;
  BlobWriter(std::shared_ptr<BlobStoreState> state, std::string sha256, uint64_t size,
             std::string path, base::UniqueFd fd);

  const std::shared_ptr<BlobStoreState> state_;
  const std::string sha256_;
  const uint64_t size_;
  uint64_t received_ = 0;
  std::string temporary_path_;  // Empty after Commit.
  base::UniqueFd fd_;
  base::Sha256 digest_;
};

// Keeps the store from evicting some blobs. One thread at a time. May outlive the store.
class BlobHold {
 public:
  ~BlobHold();
  // Bytes of each held blob's content, by name.
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
  // Makes `dir` (0700) and removes what a killed process left. Evicts nothing, so that the daemon
  // can first hold the blobs of its queued runs. `clock` outlives the store.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(
      const std::string& dir, uint64_t budget_bytes, const base::Clock* clock = base::RealClock());

  // The names that the store lacks, malformed ones included, in their order, each once. The others
  // count as used now.
  std::vector<std::string> FindMissing(const std::vector<std::string>& sha256s);
  // Holds all of them or none: NotFound names the first missing one. They count as used now.
  absl::StatusOr<std::unique_ptr<BlobHold>> Hold(const std::vector<std::string>& sha256s);
  // Makes room for `size` bytes. InvalidArgument for a malformed name. ResourceExhausted, without
  // an eviction, when held, recently used and arriving blobs leave no room in the budget.
  absl::StatusOr<std::unique_ptr<BlobWriter>> Begin(const std::string& sha256, uint64_t size);
  // Opens a blob for reading; it counts as used now. NotFound when it is missing.
  absl::StatusOr<base::UniqueFd> OpenBlob(const std::string& sha256);

 private:
  explicit BlobStore(std::shared_ptr<BlobStoreState> state) : state_(std::move(state)) {}
  const std::shared_ptr<BlobStoreState> state_;
};

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_BLOB_STORE_H_
