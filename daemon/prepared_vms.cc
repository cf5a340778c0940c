// SPDX-License-Identifier: Apache-2.0
#include "daemon/prepared_vms.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace ktstr::daemon {

PreparedVms::PreparedVms(size_t capacity, absl::Duration patience)
    : capacity_(capacity), patience_(patience), thread_([this] { Loop(); }) {}

PreparedVms::~PreparedVms() {
  {
    base::MutexLock lock(&mutex_);
    ending_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

std::list<PreparedVms::Place>::iterator PreparedVms::Find(const std::string& name, uid_t uid) {
  // Better ones have more.
  const auto worth = [](const Place& place) {
    return (place.vm.has_value() ? 2 : 0) + (place.has_run ? 1 : 0);
  };
  auto best = places_.end();
  for (auto place = places_.begin(); place != places_.end(); ++place) {
    if (place->name != name || (place->has_run && place->uid != uid)) continue;
    if (best == places_.end() || worth(*place) > worth(*best)) best = place;
  }
  return best;
}

std::optional<VmProcess> PreparedVms::Take(const std::string& name, uid_t uid) {
  base::MutexLock lock(&mutex_);
  auto place = Find(name, uid);
  while (place != places_.end() && place->starting) {
    changed_.Wait(&mutex_);
    place = Find(name, uid);
  }
  if (place == places_.end() || !place->vm.has_value()) return std::nullopt;
  std::optional<VmProcess> vm = std::move(place->vm);
  places_.erase(place);
  return vm;
}

void PreparedVms::Want(const std::string& name, uid_t uid, Starter start) {
  if (capacity_ == 0) return;
  base::MutexLock lock(&mutex_);
  if (const auto place = Find(name, uid); place != places_.end()) {
    places_.splice(places_.begin(), places_, place);
    return;
  }
  if (places_.size() >= capacity_) MakeRoom(uid);
  places_.push_front({.id = ++last_id_, .name = name, .uid = uid, .start = std::move(start)});
  changed_.SignalAll();
}

void PreparedVms::Put(const std::string& name, uid_t uid, VmProcess vm) {
  if (capacity_ == 0) return;
  base::MutexLock lock(&mutex_);
  if (ending_) return;
  if (places_.size() >= capacity_) MakeRoom(uid);
  Place place{.id = ++last_id_,
              .name = name,
              .uid = uid,
              .has_run = true,
              .until = base::RealClock()->Monotonic() + patience_};
  place.vm.emplace(std::move(vm));
  places_.push_front(std::move(place));
  changed_.SignalAll();
}

// Drops the place wanted longest ago, of the user who has the most with the new one counted.
void PreparedVms::MakeRoom(uid_t uid) {
  std::map<uid_t, int> count = {{uid, 1}};
  for (const Place& place : places_) ++count[place.uid];
  const auto most = std::max_element(
      count.begin(), count.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  for (auto place = places_.rbegin(); place != places_.rend(); ++place) {
    if (count[place->uid] < most->second) continue;
    places_.erase(std::next(place).base());
    return;
  }
  places_.pop_back();
}

void PreparedVms::Drop(const std::string& name) {
  base::MutexLock lock(&mutex_);
  places_.remove_if([&](const Place& place) { return place.name == name; });
  changed_.SignalAll();
}

void PreparedVms::DropAll() {
  base::MutexLock lock(&mutex_);
  places_.clear();
  changed_.SignalAll();
}

size_t PreparedVms::CountWaiting() {
  base::MutexLock lock(&mutex_);
  while (!std::all_of(places_.begin(), places_.end(),
                      [](const Place& place) { return place.vm.has_value(); })) {
    changed_.Wait(&mutex_);
  }
  return places_.size();
}

absl::Duration PreparedVms::EndOverdue() {
  const absl::Duration now = base::RealClock()->Monotonic();
  absl::Duration next = absl::InfiniteDuration();
  for (auto place = places_.begin(); place != places_.end();) {
    if (place->until <= now) {
      place = places_.erase(place);
      continue;
    }
    next = std::min(next, place->until - now);
    ++place;
  }
  return next;
}

std::optional<std::pair<uint64_t, PreparedVms::Starter>> PreparedVms::NextDue() {
  base::MutexLock lock(&mutex_);
  while (!ending_) {
    for (Place& place : places_) {
      if (place.vm.has_value()) continue;
      place.starting = true;
      return std::make_pair(place.id, place.start);
    }
    if (const absl::Duration next = EndOverdue(); next == absl::InfiniteDuration()) {
      changed_.Wait(&mutex_);
    } else {
      changed_.WaitFor(&mutex_, next);
    }
  }
  places_.clear();
  changed_.SignalAll();
  return std::nullopt;
}

void PreparedVms::Loop() {
  while (auto due = NextDue()) {
    absl::StatusOr<VmProcess> vm = due->second();
    if (!vm.ok()) KTSTR_LOG(WARNING) << "machine not restored ahead: " << vm.status();
    base::MutexLock lock(&mutex_);
    const auto place = std::find_if(places_.begin(), places_.end(),
                                    [&](const Place& p) { return p.id == due->first; });
    if (place == places_.end()) continue;  // Dropped meanwhile: the process ends here.
    if (vm.ok()) {
      place->starting = false;
      place->vm.emplace(*std::move(vm));
    } else {
      places_.erase(place);
    }
    changed_.SignalAll();
  }
}

}  // namespace ktstr::daemon
