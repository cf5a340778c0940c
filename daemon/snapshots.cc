// SPDX-License-Identifier: Apache-2.0
#include "daemon/snapshots.h"

#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/log.h"

namespace ktstr::daemon {
namespace {

constexpr uint64_t kBlock = 512;  // Unit of st_blocks.
constexpr absl::Duration kStopPeriod = absl::Milliseconds(100);
constexpr size_t kMaxImpossible = 64;

uint64_t MemoryOf(const vmm::Snapshot& snapshot) {
  uint64_t blocks = 0;
  for (const base::UniqueFd& ram : snapshot.ram) {
    struct stat info;
    if (fstat(ram.get(), &info) == 0) blocks += static_cast<uint64_t>(info.st_blocks);
  }
  return blocks * kBlock;
}

}  // namespace

Snapshots::Snapshots(const Options& options)
    : options_(options),
      store_(options.dir, options.disk_budget),
      writer_([this] { WriterLoop(); }) {}

Snapshots::~Snapshots() {
  {
    base::MutexLock lock(&mutex_);
    ending_ = true;
    changed_.SignalAll();
  }
  writer_.join();
}

Snapshots::Handle Snapshots::Find(const std::string& identity, std::string* note) {
  note->clear();
  base::MutexLock load_lock(&load_mutex_);
  {
    base::MutexLock lock(&mutex_);
    for (auto hot = hot_.begin(); hot != hot_.end(); ++hot) {
      if (hot->identity != identity) continue;
      hot_.splice(hot_.begin(), hot_, hot);
      return hot->snapshot;
    }
    for (const Pending& pending : pending_) {
      if (pending.info.identity == identity) return pending.snapshot;
    }
  }
  absl::StatusOr<cache::SnapshotFiles> files = store_.Load(identity);
  if (!files.ok()) {
    if (!absl::IsNotFound(files.status())) *note = std::string(files.status().message());
    return nullptr;
  }
  auto snapshot = std::make_shared<vmm::Snapshot>();
  snapshot->state = std::move(files->state);
  snapshot->ram = std::move(files->ram);
  base::MutexLock lock(&mutex_);
  Remember(identity, snapshot);
  return snapshot;
}

Snapshots::Handle Snapshots::Add(cache::SnapshotInfo info, vmm::Snapshot snapshot) {
  Handle handle = std::make_shared<const vmm::Snapshot>(std::move(snapshot));
  base::MutexLock lock(&mutex_);
  for (const Hot& hot : hot_) {
    if (hot.identity == info.identity) return hot.snapshot;
  }
  Remember(info.identity, handle);
  pending_.push_back({std::move(info), handle});
  changed_.SignalAll();
  return handle;
}

std::unique_ptr<Snapshots::Turn> Snapshots::AwaitTurn(const std::string& identity,
                                                      const std::function<bool()>& stopped) {
  base::MutexLock lock(&mutex_);
  while (making_.count(identity) != 0) {
    if (stopped()) return nullptr;
    changed_.WaitFor(&mutex_, kStopPeriod);
  }
  making_.insert(identity);
  return std::make_unique<Turn>(this, identity);
}

Snapshots::Turn::~Turn() {
  base::MutexLock lock(&snapshots_->mutex_);
  snapshots_->making_.erase(identity_);
  snapshots_->changed_.SignalAll();
}

void Snapshots::MarkImpossible(const std::string& identity) {
  base::MutexLock lock(&mutex_);
  impossible_.push_back(identity);
  if (impossible_.size() > kMaxImpossible) impossible_.pop_front();
}

bool Snapshots::Impossible(const std::string& identity) {
  base::MutexLock lock(&mutex_);
  return std::find(impossible_.begin(), impossible_.end(), identity) != impossible_.end();
}

std::string Snapshots::TakeUnkept(const std::string& identity) {
  base::MutexLock lock(&mutex_);
  const auto found = unkept_.find(identity);
  if (found == unkept_.end()) return {};
  std::string why = std::move(found->second);
  unkept_.erase(found);
  return why;
}

void Snapshots::Drop(const std::string& identity) {
  {
    base::MutexLock lock(&mutex_);
    Forget(identity);
    // The writer may be about to store it.
    while (writing_ == identity) changed_.Wait(&mutex_);
  }
  store_.Remove(identity);
}

absl::StatusOr<std::vector<v1::SnapshotEntry>> Snapshots::Clean() {
  AwaitWritten();
  {
    base::MutexLock lock(&mutex_);
    hot_.clear();
  }
  return store_.Clean();
}

void Snapshots::AwaitWritten() {
  base::MutexLock lock(&mutex_);
  while (!pending_.empty() || !writing_.empty()) changed_.Wait(&mutex_);
}

void Snapshots::Remember(const std::string& identity, Handle snapshot) {
  hot_.push_front({identity, std::move(snapshot)});
  uint64_t total = 0;
  for (auto hot = hot_.begin(); hot != hot_.end();) {
    total += MemoryOf(*hot->snapshot);
    hot = total > options_.memory_budget && hot != hot_.begin() ? hot_.erase(hot) : std::next(hot);
  }
}

void Snapshots::Forget(const std::string& identity) {
  hot_.remove_if([&](const Hot& hot) { return hot.identity == identity; });
  pending_.remove_if([&](const Pending& pending) { return pending.info.identity == identity; });
}

std::optional<Snapshots::Pending> Snapshots::NextPending() {
  base::MutexLock lock(&mutex_);
  writing_.clear();
  changed_.SignalAll();
  while (pending_.empty() && !ending_) changed_.Wait(&mutex_);
  if (pending_.empty()) return std::nullopt;
  Pending next = std::move(pending_.front());
  pending_.pop_front();
  writing_ = next.info.identity;
  return next;
}

void Snapshots::WriterLoop() {
  while (std::optional<Pending> pending = NextPending()) {
    const Pending& next = *pending;
    std::vector<int> ram;
    for (const base::UniqueFd& node : next.snapshot->ram) ram.push_back(node.get());
    const absl::Status stored = store_.Store(next.info, next.snapshot->state.get(), ram);
    if (stored.ok()) continue;
    KTSTR_LOG(WARNING) << "snapshot not kept on disk: " << stored;
    base::MutexLock lock(&mutex_);
    unkept_[next.info.identity] = std::string(stored.message());
  }
}

}  // namespace ktstr::daemon
