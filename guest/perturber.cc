// SPDX-License-Identifier: Apache-2.0
#include "guest/perturber.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/head_tail.h"
#include "base/utf8.h"

namespace ktstr::guest {
namespace {

using v1::Perturbation;

// The draws for the n-th disturbance of a kind: each at index kDraws * n + one of these.
enum Draw : uint64_t { kGap, kPlace, kLength, kDraws };

// The shares of two nice values that are 16 apart differ by a factor of 1.25^16 = 36: the lower one
// still runs many times within the default of max_gap_ms.
constexpr int kHighestNice = -8;
constexpr int kLowestNice = 8;
constexpr size_t kMaxErrorBytes = 200;

std::string_view StreamOf(Perturbation::Kind kind) {
  switch (kind) {
    case Perturbation::BURST:
      return stream::kBurst;
    case Perturbation::TIMERS:
      return stream::kTimers;
    case Perturbation::IPIS:
      return stream::kIpis;
    case Perturbation::MOVE:
      return stream::kMove;
    case Perturbation::HOTPLUG:
      return stream::kHotplug;
    default:
      return "";
  }
}

}  // namespace

Perturber::Perturber(const v1::GuestPerturb& plan, const Random* random, Disturber* disturber,
                     WorkerControl* workers, Reporter* reporter)
    : plan_(plan), random_(random), disturber_(disturber), workers_(workers), reporter_(reporter) {}

void Perturber::Begin(uint64_t now_ns) {
  start_ns_ = now_ns;
  for (const v1::GuestDisturbance& disturbance : plan_.disturbance()) {
    counts_[disturbance.kind()];
    sources_.push_back({.plan = disturbance, .stream = StreamOf(disturbance.kind())});
    Schedule(0, &sources_.back());
  }
  if (!plan_.random_nice()) return;
  counts_[Perturbation::PRIORITY];
  ScheduleChangePoint(0);
}

void Perturber::Schedule(uint64_t after, Source* source) const {
  const uint64_t period = source->plan.period_ns();
  const uint64_t index = kDraws * source->index + kGap;
  source->next = after + period / 2 + random_->Between(1, period, source->stream, index, after);
}

uint64_t Perturber::next_ns() const {
  if (start_ns_ == 0) return kNever;
  uint64_t next = std::min(next_change_, home_at_);
  for (const Source& source : sources_) next = std::min(next, source.next);
  return next == kNever ? kNever : start_ns_ + next;
}

void Perturber::Poll(uint64_t now_ns) {
  if (start_ns_ == 0) return;
  const uint64_t now = now_ns - std::min(now_ns, start_ns_);
  ReportEnded();
  if (home_at_ <= now) EndMove(now);
  for (Source& source : sources_) {
    while (source.next <= now) {
      const uint64_t due = source.next;
      Fire(&source);
      if (source.next == kNever) break;
      ++source.index;
      Schedule(due, &source);
    }
  }
  while (next_change_ <= now) ChangePriority();
}

void Perturber::Fire(Source* source) {
  const Perturbation::Kind kind = source->plan.kind();
  const uint64_t index = kDraws * source->index;
  const uint64_t due = source->next;
  const uint64_t length =
      random_->Between(source->plan.min_length_ns(), source->plan.max_length_ns(), source->stream,
                       index + kLength, due);
  if (due + length > plan_.length_ns()) {
    source->next = kNever;
    return;
  }
  if (kind == Perturbation::MOVE) {
    FireMove(length, due, index + kPlace);
    return;
  }
  const bool hotplug = kind == Perturbation::HOTPLUG;
  const auto places = static_cast<uint64_t>(hotplug ? plan_.hotplug_cpus_size() : plan_.cpus());
  const uint64_t place = random_->Below(places, source->stream, index + kPlace, due);
  const uint32_t cpu = hotplug && places > 0 ? plan_.hotplug_cpus(static_cast<int>(place))
                                             : static_cast<uint32_t>(place);
  if (places == 0 || !disturber_->Start({.kind = kind, .cpu = cpu, .length_ns = length}))
    ++counts_[kind].missed;
}

void Perturber::FireMove(uint64_t length_ns, uint64_t draw_at, uint64_t index) {
  const auto worker =
      static_cast<uint32_t>(random_->Below(workers_->Count(), stream::kMove, index, draw_at));
  if (away_ != kNobody || workers_->Count() == 0 || !workers_->Alive(worker)) {
    ++counts_[Perturbation::MOVE].missed;
    return;
  }
  if (!Count(Perturbation::MOVE, workers_->MoveAway(worker))) return;
  away_ = worker;
  away_since_ = draw_at;
  home_at_ = draw_at + length_ns;
}

void Perturber::EndMove(uint64_t now) {
  const uint32_t worker = std::exchange(away_, kNobody);
  home_at_ = kNever;
  // A worker that has ended meanwhile stays where it is.
  if (workers_->Alive(worker) && !Count(Perturbation::MOVE, workers_->MoveHome(worker))) return;
  ++counts_[Perturbation::MOVE].done;
  Perturbation perturbation;
  perturbation.set_kind(Perturbation::MOVE);
  perturbation.set_worker(worker);
  Report(std::move(perturbation), away_since_, now - std::min(now, away_since_));
}

void Perturber::SetPriorities(uint64_t now_ns) {
  if (start_ns_ == 0 || !plan_.random_nice()) return;
  const uint64_t now = now_ns - std::min(now_ns, start_ns_);
  for (; with_priority_ < workers_->Count(); ++with_priority_) {
    const uint64_t above =
        random_->Between(0, -kHighestNice, stream::kPriority, with_priority_, now);
    SetNice(with_priority_, kHighestNice + static_cast<int>(above), now);
  }
}

void Perturber::SetNice(uint32_t worker, int nice, uint64_t now) {
  const int value = std::clamp(workers_->DeclaredNice(worker) + nice, -20, 19);
  if (!Count(Perturbation::PRIORITY, workers_->SetNice(worker, value))) return;
  ++counts_[Perturbation::PRIORITY].done;
  Perturbation perturbation;
  perturbation.set_kind(Perturbation::PRIORITY);
  perturbation.set_worker(worker);
  perturbation.set_nice(value);
  Report(std::move(perturbation), now, 0);
}

void Perturber::ScheduleChangePoint(uint64_t from) {
  next_change_ = kNever;
  if (change_points_ >= plan_.change_points()) return;
  const uint64_t part = plan_.length_ns() / plan_.change_points();
  next_change_ = change_points_ * part +
                 random_->Below(part, stream::kChangePoint, uint64_t{2} * change_points_, from);
}

void Perturber::ChangePriority() {
  const uint64_t due = next_change_;
  const auto worker = static_cast<uint32_t>(
      random_->Below(workers_->Count(), stream::kChangePoint, 2 * change_points_ + 1, due));
  if (workers_->Count() > 0 && workers_->Alive(worker)) {
    SetNice(worker, kLowestNice - static_cast<int>(change_points_), due);
  } else {
    ++counts_[Perturbation::PRIORITY].missed;
  }
  ++change_points_;
  ScheduleChangePoint(due);
}

void Perturber::ReportEnded() {
  for (EndedDisturbance& ended : disturber_->TakeEnded()) {
    if (!Count(ended.asked.kind, ended.status)) continue;
    ++counts_[ended.asked.kind].done;
    Perturbation perturbation;
    perturbation.set_kind(ended.asked.kind);
    perturbation.set_cpu(ended.asked.cpu);
    Report(std::move(perturbation), ended.begin_ns - std::min(ended.begin_ns, start_ns_),
           ended.length_ns);
  }
}

bool Perturber::Count(Perturbation::Kind kind, const absl::Status& status) {
  if (status.ok()) return true;
  Counts& counts = counts_[kind];
  ++counts.failed;
  counts.last_error =
      base::SanitizeUtf8(base::CutLine(std::string(status.message()), kMaxErrorBytes));
  return false;
}

void Perturber::Report(Perturbation perturbation, uint64_t begin, uint64_t length) {
  v1::Observation observation;
  observation.set_guest_time_ns(start_ns_ + begin);
  perturbation.set_begin_ns(begin);
  perturbation.set_length_ns(length);
  *observation.mutable_perturbation() = std::move(perturbation);
  reporter_->Report(std::move(observation));
}

void Perturber::Stop(uint64_t now_ns) {
  if (start_ns_ == 0) return;
  if (away_ != kNobody) EndMove(now_ns - std::min(now_ns, start_ns_));
  sources_.clear();
  next_change_ = kNever;
}

void Perturber::ReportTotals() {
  if (start_ns_ == 0) return;
  ReportEnded();
  for (const auto& [kind, counts] : counts_) {
    v1::Observation observation;
    v1::PerturbationTotal* total = observation.mutable_perturbation_total();
    total->set_kind(kind);
    total->set_done(counts.done);
    total->set_failed(counts.failed);
    total->set_missed(counts.missed);
    total->set_last_error(counts.last_error);
    reporter_->Report(std::move(observation));
  }
  start_ns_ = 0;
}

}  // namespace ktstr::guest
