// SPDX-License-Identifier: Apache-2.0
#include "daemon/run_manager.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "daemon/capped_events.h"
#include "scenario/limits.h"

namespace ktstr::daemon {
namespace {

constexpr int kEventsPerRead = 16;
// Files of machine and snapshot, bundle, sockets and pidfd of a VM process, with room to spare.
constexpr int kDescriptorsPerRun = 32;
constexpr size_t kMaxWatchedRuns = scenario::LimitOf("WatchRunsRequest.run_id").max;
constexpr size_t kMaxShownRunId = 64;

v1::RunEvent PhaseEvent(int64_t unix_ms, v1::RunPhase::Phase phase, const std::string& detail) {
  v1::RunEvent event;
  event.set_unix_ms(unix_ms);
  event.mutable_phase()->set_phase(phase);
  event.mutable_phase()->set_detail(detail);
  return event;
}

v1::RunSummary Summary(const StoredRun& run) {
  v1::RunSummary summary;
  summary.set_run_id(RunId(run.number));
  summary.set_scenario(run.scenario);
  summary.set_state(std::string(RunStateName(run.state)));
  summary.set_verdict(run.verdict);
  summary.set_submitted_unix_ms(run.submitted_ms);
  return summary;
}

}  // namespace

// Turns the executor's reports into events. Used by one worker thread.
class RunManager::Reporter : public RunReporter {
 public:
  Reporter(RunManager* manager, int64_t number, int stop_fd)
      : manager_(manager),
        number_(number),
        stop_fd_(stop_fd),
        capped_(EventCaps(), [manager, number](v1::RunEvent event) {
          manager->Emit(number, std::move(event));
        }) {}
  void Phase(v1::RunPhase::Phase phase, const std::string& detail) override {
    manager_->Emit(number_, PhaseEvent(manager_->NowMs(), phase, detail));
  }
  void Progress(const v1::RunProgress& progress) override {
    capped_.Progress(manager_->NowMs(), progress);
  }
  // The VM process bounds it already, but is not trusted to.
  void Console(const std::string& text) override { capped_.Console(manager_->NowMs(), text); }
  void End() { capped_.End(manager_->NowMs()); }
  int stop_fd() const override { return stop_fd_; }
  std::optional<StopRequest> stop() const override {
    base::MutexLock lock(&manager_->mutex_);
    return manager_->active_.at(number_).stop;
  }

 private:
  RunManager* const manager_;
  const int64_t number_;
  const int stop_fd_;
  CappedEvents capped_;
};

absl::StatusOr<std::unique_ptr<RunManager>> RunManager::Create(const RunManagerOptions& options,
                                                               RunStore* store,
                                                               RunExecutor* executor,
                                                               const RecordFiles* files) {
  std::unique_ptr<RunManager> manager(new RunManager(options, store, executor, files));
  KTSTR_RETURN_IF_ERROR(manager->TakeUp());
  for (uint32_t i = 0; i < std::max(1u, options.slots); ++i) {
    manager->threads_.emplace_back([m = manager.get()] { m->WorkerLoop(); });
  }
  manager->threads_.emplace_back([m = manager.get()] { m->HousekeepingLoop(); });
  return manager;
}

RunManager::~RunManager() { Stop(); }

RunManager::ActiveRun RunManager::MakeActive(uid_t uid, const v1::RunSpec& spec) const {
  ActiveRun run;
  run.uid = uid;
  run.cancel_when_unwatched = spec.cancel_when_unwatched();
  run.grace = options_.unwatched_grace;
  return run;
}

void RunManager::FileAgain() {
  if (absl::Status cleaned = files_->Clean(); !cleaned.ok()) KTSTR_LOG(WARNING) << cleaned;
  const auto due = store_->DueFiles();
  if (!due.ok()) {
    KTSTR_LOG(WARNING) << "record files: " << due.status();
    return;
  }
  for (const RunStore::DueFile& file : *due) {
    absl::StatusOr<v1::RunRecord> record = store_->Record(file.number);
    absl::StatusOr<StagedRecord> staged =
        record.ok() ? files_->Stage(file.record_file, *record) : record.status();
    if (staged.ok()) {
      Publish(file.number, &*staged);
    } else {
      KTSTR_LOG(WARNING) << RunId(file.number) << ": record file not written: " << staged.status();
    }
  }
}

absl::Status RunManager::TakeUp() {
  FileAgain();
  KTSTR_ASSIGN_OR_RETURN(const std::vector<StoredRun> left, store_->Unfinished());
  for (const StoredRun& stored : left) {
    RunJob job{.number = stored.number, .uid = stored.uid, .submitted_ms = stored.submitted_ms};
    std::string lost;
    if (absl::StatusOr<v1::RunSpec> spec = store_->Spec(stored.number); spec.ok()) {
      job.spec = *std::move(spec);
      if (stored.state == RunState::kRunning) lost = "the daemon ended while the run was running";
    } else {
      // One damaged run must not stop the other runs and the daemon.
      KTSTR_LOG(ERROR) << RunId(stored.number) << ": " << spec.status();
      lost = std::string(spec.status().message());
    }
    if (!lost.empty()) {
      FinishRun(stored.number, stored.uid,
                executor_->Abandoned(job, {.interrupted = true, .reason = lost}));
      continue;
    }
    ActiveRun run = MakeActive(stored.uid, job.spec);
    absl::StatusOr<std::unique_ptr<RunClaim>> claim = executor_->Claim(stored.uid, job.spec);
    if (claim.ok()) {
      run.claim = *std::move(claim);
    } else {
      // The run keeps its place; when it starts, its record names what is missing.
      KTSTR_LOG(WARNING) << RunId(stored.number) << ": " << claim.status();
    }
    run.events = stored.events;
    run.grace = options_.restart_grace;
    base::MutexLock lock(&mutex_);
    UpdateUnwatched(&run);
    active_.emplace(stored.number, std::move(run));
    queue_.insert(stored.number);
  }
  return absl::OkStatus();
}

std::string RunManager::QueueDetail() {
  if (queue_.empty() && running_ < static_cast<int>(options_.slots) && !starved_) {
    return "next to start";
  }
  const std::string place = absl::StrCat("place ", queue_.size() + 1, " in the queue, ");
  if (starved_) {
    return absl::StrCat(place, "waiting for file descriptors (ktstrd's RLIMIT_NOFILE)");
  }
  return absl::StrCat(place, "waiting for a VM slot (", running_, " of ", options_.slots,
                      " in use)");
}

// Not under the lock: an fsync takes its time. Runs still start in the order of their numbers.
absl::StatusOr<int64_t> RunManager::StoreSubmit(const Caller& caller, const v1::RunSpec& spec,
                                                uint64_t submitting, const std::string& detail) {
  // Read after `submitting`: a submit that ends in between counts twice, and none counts never.
  KTSTR_ASSIGN_OR_RETURN(const uint64_t unfinished, store_->UnfinishedBytes(caller.uid));
  if (unfinished + submitting > options_.max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        caller.user, " has ", unfinished + submitting - spec.ByteSizeLong(),
        " bytes of queued and running runs, and this one has ", spec.ByteSizeLong(),
        ": more than the ", options_.max_bytes,
        " bytes of run_budget_mb in ktstrd's configuration. Wait for some runs to end"));
  }
  return store_->Submit(caller.uid, spec, PhaseEvent(NowMs(), v1::RunPhase::QUEUED, detail));
}

absl::StatusOr<std::string> RunManager::Submit(const Caller& caller, const v1::RunSpec& spec) {
  ActiveRun run = MakeActive(caller.uid, spec);
  KTSTR_ASSIGN_OR_RETURN(run.claim, executor_->Claim(caller.uid, spec));
  run.events = 1;
  const uint64_t size = spec.ByteSizeLong();
  uint64_t submitting = 0;  // With this one.
  std::string detail;
  {
    base::MutexLock lock(&mutex_);
    if (stopping_) return absl::UnavailableError("ktstrd is ending; try again");
    Submitting& mine = submitting_[caller.uid];
    uint32_t queued = mine.runs;
    for (int64_t number : queue_) queued += active_.at(number).uid == caller.uid ? 1 : 0;
    if (queued >= options_.max_queued) {
      if (mine.runs == 0) submitting_.erase(caller.uid);
      return absl::ResourceExhaustedError(
          absl::StrCat(caller.user, " has ", queued, " runs in the queue, the most that ",
                       "max_queued_runs of ktstrd's configuration allows: wait for some to end"));
    }
    detail = QueueDetail();
    ++mine.runs;
    mine.bytes += size;
    submitting = mine.bytes;
  }
  const absl::StatusOr<int64_t> number = StoreSubmit(caller, spec, submitting, detail);
  base::MutexLock lock(&mutex_);
  Submitting& mine = submitting_[caller.uid];
  mine.bytes -= size;
  if (--mine.runs == 0) submitting_.erase(caller.uid);
  KTSTR_RETURN_IF_ERROR(number.status());
  UpdateUnwatched(&run);
  active_.emplace(*number, std::move(run));
  queue_.insert(*number);
  changed_.SignalAll();
  return RunId(*number);
}

void RunManager::Emit(int64_t number, v1::RunEvent event) {
  absl::StatusOr<uint64_t> count = store_->AppendEvent(number, std::move(event));
  base::MutexLock lock(&mutex_);
  ActiveRun& run = active_.at(number);
  if (count.ok()) {
    run.events = *count;
  } else if (run.broken.ok()) {
    KTSTR_LOG(ERROR) << RunId(number) << ": " << count.status();
    run.broken = count.status();
    StopRun(&run, {.interrupted = true, .reason = std::string(count.status().message())});
  }
  changed_.SignalAll();
}

std::optional<int64_t> RunManager::TakeNext() {
  while (true) {
    {
      base::MutexLock lock(&mutex_);
      while (!stopping_ && queue_.empty()) changed_.Wait(&mutex_);
      if (stopping_) return std::nullopt;
    }
    // A run that starts with too few descriptors would end as ERROR, so it stays queued.
    const bool enough = base::CanOpenDescriptors(kDescriptorsPerRun);
    base::UniqueFd stop_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    base::MutexLock lock(&mutex_);
    if (stopping_) return std::nullopt;
    if (!enough || !stop_fd.valid()) {
      if (!std::exchange(starved_, true)) {
        KTSTR_LOG(WARNING) << "too few file descriptors to start a run, which takes up to "
                           << kDescriptorsPerRun << ": raise the hard limit (RLIMIT_NOFILE)";
      }
      changed_.WaitFor(&mutex_, options_.descriptor_retry);
      continue;
    }
    starved_ = false;
    if (queue_.empty()) continue;
    const int64_t number = *queue_.begin();
    queue_.erase(queue_.begin());
    ActiveRun& run = active_.at(number);
    run.running = true;
    run.stop_fd = std::move(stop_fd);
    ++running_;
    return number;
  }
}

void RunManager::WorkerLoop() {
  while (const std::optional<int64_t> number = TakeNext()) {
    Work(*number);
    base::MutexLock lock(&mutex_);
    --running_;
  }
}

void RunManager::Work(int64_t number) {
  RunJob job{.number = number};
  int stop_fd;
  std::optional<StopRequest> stop;
  {
    base::MutexLock lock(&mutex_);
    const ActiveRun& run = active_.at(number);
    job.uid = run.uid;
    stop_fd = run.stop_fd.get();
    stop = run.stop;
  }
  absl::StatusOr<StoredRun> stored = store_->Get(number);
  absl::StatusOr<v1::RunSpec> spec = store_->Spec(number);
  absl::Status status = stored.ok() ? spec.status() : stored.status();
  if (status.ok()) {
    job.submitted_ms = stored->submitted_ms;
    job.spec = *std::move(spec);
    if (!stop.has_value()) status = store_->SetRunning(number);
  }
  if (!status.ok()) {
    KTSTR_LOG(ERROR) << RunId(number) << ": " << status;
    stop = StopRequest{.interrupted = true, .reason = std::string(status.message())};
  }
  Reporter reporter(this, number, stop_fd);
  RunOutcome outcome =
      stop.has_value() ? executor_->Abandoned(job, *stop) : executor_->Execute(job, reporter);
  reporter.End();
  FinishRun(number, job.uid, std::move(outcome));
}

void RunManager::Publish(int64_t number, StagedRecord* staged) {
  absl::Status status = staged->Publish();
  if (status.ok()) status = store_->MarkFiled(number);
  // It stays due: the next daemon writes it.
  if (!status.ok()) KTSTR_LOG(WARNING) << RunId(number) << ": record file: " << status;
}

absl::Status RunManager::StoreEnd(int64_t number, const RunOutcome& outcome, int64_t ended_ms) {
  std::optional<StagedRecord> staged;
  if (!outcome.record_file.empty()) {
    absl::StatusOr<StagedRecord> written = files_->Stage(outcome.record_file, outcome.record);
    if (written.ok()) {
      staged.emplace(*std::move(written));
    } else {
      KTSTR_LOG(WARNING) << RunId(number) << ": " << written.status();
      v1::RunEvent line;
      line.set_unix_ms(ended_ms);
      line.mutable_progress()->set_text(
          absl::StrCat("warning: record file not written: ", written.status().message(),
                       "; the record is in `ktstrctl results show ", RunId(number), "`"));
      // Without this event nobody would learn of it.
      KTSTR_RETURN_IF_ERROR(store_->AppendEvent(number, std::move(line)).status());
    }
  }
  absl::Status recorded = store_
                              ->Finish(number, outcome.record, outcome.observations, ended_ms,
                                       staged.has_value() ? outcome.record_file : "")
                              .status();
  // AlreadyExists: an earlier commit succeeded although it returned an error.
  if (staged.has_value() && (recorded.ok() || absl::IsAlreadyExists(recorded))) {
    Publish(number, &*staged);
  }
  return recorded;
}

void RunManager::FinishRun(int64_t number, uid_t uid, RunOutcome outcome) {
  const int64_t ended_ms = NowMs();
  const absl::Status recorded = StoreEnd(number, outcome, ended_ms);
  if (!recorded.ok()) KTSTR_LOG(ERROR) << RunId(number) << ": not recorded: " << recorded;
  {
    base::MutexLock lock(&mutex_);
    if (!recorded.ok()) {
      absl::Status why = base::Annotate(
          recorded,
          absl::StrCat(RunId(number), " ended as ", v1::Verdict_Name(outcome.record.verdict()),
                       ", but is not recorded yet (ktstrd goes on trying)"));
      unrecorded_.emplace(number, Unrecorded{uid, std::move(outcome), ended_ms, std::move(why),
                                             options_.clock->Monotonic() + options_.record_retry});
    }
    active_.erase(number);
    changed_.SignalAll();
  }
  Prune(uid, number);
}

void RunManager::RecordAgain(int64_t number) {
  const Unrecorded* end = nullptr;  // Only this thread erases it.
  {
    base::MutexLock lock(&mutex_);
    end = &unrecorded_.at(number);
  }
  const uid_t uid = end->uid;
  const absl::Status recorded = StoreEnd(number, end->outcome, end->ended_ms);
  // No further try helps when the run has finished (an earlier commit succeeded), is deleted, or is
  // in a damaged file. A full disk may have room later.
  const bool done = recorded.ok() || absl::IsAlreadyExists(recorded) ||
                    absl::IsNotFound(recorded) || absl::IsDataLoss(recorded);
  {
    base::MutexLock lock(&mutex_);
    if (done) {
      unrecorded_.erase(number);
      changed_.SignalAll();
    } else {
      unrecorded_.at(number).next = options_.clock->Monotonic() + options_.record_retry;
    }
  }
  if (!done) return;
  KTSTR_LOG(INFO) << RunId(number) << ": tried again to record it: " << recorded;
  Prune(uid, number);
}

void RunManager::Prune(uid_t uid, int64_t finished) {
  const RunStore::Limits limits = {
      .runs = options_.max_kept, .budget_bytes = options_.max_bytes, .spared = finished};
  if (absl::Status pruned = store_->Prune(uid, limits); !pruned.ok()) {
    KTSTR_LOG(WARNING) << "old runs not removed: " << pruned;
  }
}

void RunManager::StopRun(ActiveRun* run, StopRequest why) {
  if (run->stop.has_value()) return;
  run->stop = std::move(why);
  if (run->running && eventfd_write(run->stop_fd.get(), 1) != 0)
    KTSTR_LOG(ERROR) << "eventfd_write failed";
}

void RunManager::UpdateUnwatched(ActiveRun* run) {
  if (!run->cancel_when_unwatched) return;
  const auto connected = connections_.find(run->uid);
  const bool awaited =
      run->watchers > 0 ||
      (!run->watched_ever && connected != connections_.end() && connected->second > 0);
  if (awaited) {
    run->unwatched_since = absl::InfiniteDuration();
    run->grace = options_.unwatched_grace;
  } else if (run->unwatched_since == absl::InfiniteDuration()) {
    run->unwatched_since = options_.clock->Monotonic();
    changed_.SignalAll();
  }
}

absl::Duration RunManager::StopUnwatched() {
  const absl::Duration now = options_.clock->Monotonic();
  absl::Duration next = absl::InfiniteDuration();
  for (auto& [number, run] : active_) {
    if (run.unwatched_since == absl::InfiniteDuration() || run.stop.has_value()) continue;
    const absl::Duration due = run.unwatched_since + run.grace;
    if (due > now) {
      next = std::min(next, due - now);
    } else {
      StopRun(&run, {.reason = "client disconnected"});
    }
  }
  return next;
}

void RunManager::HousekeepingLoop() {
  while (true) {
    std::optional<int64_t> stopped, unrecorded;
    {
      base::MutexLock lock(&mutex_);
      if (stopping_) return;
      absl::Duration next = StopUnwatched();
      for (const auto& [number, end] : unrecorded_) {
        const absl::Duration left = end.next - options_.clock->Monotonic();
        if (left <= absl::ZeroDuration()) unrecorded = number;
        next = std::min(next, left);
      }
      for (int64_t number : queue_) {
        if (!active_.at(number).stop.has_value()) continue;
        stopped = number;
        queue_.erase(number);
        break;
      }
      const bool busy = stopped.has_value() || unrecorded.has_value();
      if (!busy && next == absl::InfiniteDuration()) changed_.Wait(&mutex_);
      if (!busy && next != absl::InfiniteDuration()) changed_.WaitFor(&mutex_, next);
    }
    if (unrecorded.has_value()) RecordAgain(*unrecorded);
    // This thread writes its record: every worker may be busy for long.
    if (stopped.has_value()) Work(*stopped);
  }
}

absl::StatusOr<StoredRun> RunManager::Find(const Caller& caller, const std::string& run_id) {
  const std::optional<int64_t> number = ParseRunId(run_id);
  if (!number.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("run_id '", base::OneLine(run_id, kMaxShownRunId), "' is not like r-0193"));
  }
  absl::StatusOr<StoredRun> run = store_->Get(*number);
  // Another user's run looks like one that does not exist.
  if (run.ok() && !caller.MayUse(run->uid)) {
    return absl::NotFoundError(
        absl::StrCat("no run ", run_id, "; 'ktstrctl results list' shows those that are kept"));
  }
  return run;
}

absl::StatusOr<std::unique_ptr<RunManager::Watch>> RunManager::OpenWatch(const Caller& caller,
                                                                         const std::string& run_id,
                                                                         uint64_t cursor) {
  KTSTR_ASSIGN_OR_RETURN(const StoredRun stored, Find(caller, run_id));
  if (cursor > stored.events) {
    // The run may have more events by now, but no client can know of them.
    return absl::InvalidArgumentError(
        absl::StrCat("cursor ", cursor, ": ", run_id, " has ", stored.events, " events"));
  }
  base::MutexLock lock(&mutex_);
  if (auto it = active_.find(stored.number); it != active_.end()) {
    ++it->second.watchers;
    it->second.watched_ever = true;
    UpdateUnwatched(&it->second);
  }
  return std::unique_ptr<Watch>(new Watch(this, stored.number, cursor));
}

RunManager::Watch::~Watch() { manager_->EndWatch(number_); }

void RunManager::EndWatch(int64_t number) {
  base::MutexLock lock(&mutex_);
  auto it = active_.find(number);
  if (it == active_.end()) return;
  --it->second.watchers;
  UpdateUnwatched(&it->second);
}

absl::StatusOr<std::vector<v1::RunEvent>> RunManager::Watch::Next(absl::Duration timeout) {
  const absl::Duration deadline = manager_->options_.clock->Monotonic() + timeout;
  {
    base::MutexLock lock(&manager_->mutex_);
    while (true) {
      auto it = manager_->active_.find(number_);
      if (it == manager_->active_.end() || it->second.events > cursor_) break;
      // A running run is about to get its last event.
      if (manager_->stopping_ && !it->second.running) {
        return absl::UnavailableError(
            absl::StrCat("ktstrd is ending; ", RunId(number_), " goes on with the next daemon"));
      }
      const absl::Duration left = deadline - manager_->options_.clock->Monotonic();
      if (left <= absl::ZeroDuration()) return std::vector<v1::RunEvent>();
      manager_->changed_.WaitFor(&manager_->mutex_, left);
    }
    if (auto it = manager_->unrecorded_.find(number_); it != manager_->unrecorded_.end()) {
      return it->second.why;
    }
  }
  KTSTR_ASSIGN_OR_RETURN(std::vector<v1::RunEvent> events,
                         manager_->store_->Events(number_, cursor_, kEventsPerRead));
  for (const v1::RunEvent& event : events) {
    cursor_ = event.number() + 1;
    done_ = done_ || event.has_finished();
  }
  // Past the end of a finished run: no event will come.
  if (events.empty()) done_ = true;
  return events;
}

void RunManager::WatchSet::Add(const Caller& caller, const std::string& run_id, uint64_t cursor) {
  // A watch that is refused ends with it: its destructor takes the manager's lock, which comes
  // before this set's.
  absl::StatusOr<std::unique_ptr<Watch>> watch = manager_->OpenWatch(caller, run_id, cursor);
  absl::Status why = watch.status();
  {
    base::MutexLock lock(&mutex_);
    if (!broken_.ok()) return;
    if (why.ok() && watches_.size() >= kMaxWatchedRuns) {
      why = absl::ResourceExhaustedError(absl::StrCat(
          "run_id: ",
          scenario::AboveLimit(scenario::LimitOf("WatchRunsRequest.run_id"), watches_.size() + 1)));
    }
    if (why.ok() && watches_.count(run_id) != 0) {
      why = absl::InvalidArgumentError(absl::StrCat("run ", run_id, " is followed already"));
    }
    if (why.ok()) {
      watches_[run_id] = *std::move(watch);
    } else if (run_id.size() > kMaxShownRunId) {
      // Too long to be returned as the name of a run.
      broken_ = why;
    } else {
      refused_.push_back({run_id, why});
      if (refused_.size() > kMaxWatchedRuns) {
        broken_ = absl::ResourceExhaustedError(absl::StrCat(
            "run_id: ", refused_.size(), " requests for runs that cannot be followed, at most ",
            kMaxWatchedRuns, " of whose failures the client has not read"));
      }
    }
  }
  base::MutexLock lock(&manager_->mutex_);
  manager_->changed_.SignalAll();
}

void RunManager::WatchSet::Close() {
  {
    base::MutexLock lock(&mutex_);
    closed_ = true;
  }
  base::MutexLock lock(&manager_->mutex_);
  manager_->changed_.SignalAll();
}

bool RunManager::WatchSet::done() const {
  base::MutexLock lock(&mutex_);
  return closed_ && watches_.empty() && refused_.empty();
}

std::vector<RunManager::Watch*> RunManager::WatchSet::Ready() const {
  std::vector<Watch*> ready;
  base::MutexLock lock(&mutex_);
  for (const auto& [run_id, watch] : watches_) {
    const auto it = manager_->active_.find(watch->number_);
    const bool waits = it != manager_->active_.end() && it->second.events <= watch->cursor_ &&
                       (!manager_->stopping_ || it->second.running);
    if (!waits) ready.push_back(watch.get());
  }
  return ready;
}

absl::StatusOr<std::vector<RunManager::WatchSet::Step>> RunManager::WatchSet::Next(
    absl::Duration timeout) {
  const absl::Duration deadline = manager_->options_.clock->Monotonic() + timeout;
  std::vector<Watch*> ready;
  std::vector<Step> steps;
  {
    base::MutexLock lock(&manager_->mutex_);
    while (true) {
      ready = Ready();
      bool empty;
      {
        base::MutexLock own(&mutex_);
        if (!broken_.ok()) return broken_;
        steps = std::move(refused_);
        refused_.clear();
        empty = watches_.empty();
        if (!ready.empty() || !steps.empty() || (closed_ && empty)) break;
      }
      if (manager_->stopping_ && empty) return absl::UnavailableError("ktstrd is ending");
      const absl::Duration left = deadline - manager_->options_.clock->Monotonic();
      if (left <= absl::ZeroDuration()) return steps;
      manager_->changed_.WaitFor(&manager_->mutex_, left);
    }
  }
  for (Watch* watch : ready) {
    const std::string run_id = RunId(watch->number_);
    steps.push_back({run_id, watch->Next(absl::ZeroDuration())});
    if (steps.back().events.ok() && !watch->done()) continue;
    std::unique_ptr<Watch> ended;  // Its destructor takes the manager's lock.
    base::MutexLock own(&mutex_);
    ended = std::move(watches_.at(run_id));
    watches_.erase(run_id);
  }
  return steps;
}

absl::Status RunManager::Cancel(const Caller& caller, const std::string& run_id,
                                const std::string& reason) {
  KTSTR_ASSIGN_OR_RETURN(const StoredRun stored, Find(caller, run_id));
  base::MutexLock lock(&mutex_);
  auto it = active_.find(stored.number);
  if (it == active_.end()) return absl::OkStatus();
  StopRun(&it->second,
          {.reason = reason.empty() ? absl::StrCat("cancelled by ", caller.user) : reason});
  changed_.SignalAll();
  return absl::OkStatus();
}

absl::StatusOr<Page<v1::RunSummary>> RunManager::List(const Caller& caller, int32_t page_size,
                                                      const std::string& page_token) {
  KTSTR_ASSIGN_OR_RETURN(const size_t size, PageSize(page_size));
  const std::optional<int64_t> before =
      page_token.empty() ? RunStore::kNewest : ParseRunId(page_token);
  if (!before.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "page_token: '", base::OneLine(page_token, kMaxShownRunId), "' is not one of this list"));
  }
  const std::optional<uid_t> uid = caller.admin ? std::nullopt : std::optional<uid_t>(caller.uid);
  // One more than the page: whether another page follows.
  KTSTR_ASSIGN_OR_RETURN(const std::vector<StoredRun> runs, store_->List(uid, *before, size + 1));
  Page<v1::RunSummary> page;
  for (const StoredRun& run : runs) {
    if (page.entries.size() == size) {
      page.next_token = page.entries.back().run_id();
      break;
    }
    page.entries.push_back(Summary(run));
  }
  return page;
}

absl::StatusOr<v1::GetRunResponse> RunManager::Get(const Caller& caller,
                                                   const v1::GetRunRequest& request) {
  KTSTR_ASSIGN_OR_RETURN(const StoredRun run, Find(caller, request.run_id()));
  v1::GetRunResponse response;
  *response.mutable_summary() = Summary(run);
  if (run.state == RunState::kFinished) {
    KTSTR_ASSIGN_OR_RETURN(*response.mutable_record(), store_->Record(run.number));
    if (request.with_observations()) {
      KTSTR_ASSIGN_OR_RETURN(*response.mutable_observations(), store_->Observations(run.number));
    }
  }
  if (request.with_spec()) {
    KTSTR_ASSIGN_OR_RETURN(*response.mutable_spec(), store_->Spec(run.number));
  }
  return response;
}

void RunManager::SetConnections(uid_t uid, int count) {
  base::MutexLock lock(&mutex_);
  connections_[uid] = count;
  for (auto& [number, run] : active_) {
    if (run.uid == uid) UpdateUnwatched(&run);
  }
}

bool RunManager::Idle() {
  base::MutexLock lock(&mutex_);
  return active_.empty() && unrecorded_.empty();
}

void RunManager::Stop() {
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
    for (auto& [number, run] : active_) {
      if (run.running) StopRun(&run, {.interrupted = true, .reason = "ktstrd is ending"});
    }
    changed_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  std::vector<int64_t> unrecorded;
  {
    base::MutexLock lock(&mutex_);
    for (const auto& [number, end] : unrecorded_) unrecorded.push_back(number);
  }
  for (const int64_t number : unrecorded) RecordAgain(number);
}

}  // namespace ktstr::daemon
