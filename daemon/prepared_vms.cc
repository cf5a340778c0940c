// SPDX-License-Identifier: Apache-2.0
#include "daemon/prepared_vms.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "base/log.h"

namespace ktstr::daemon {

PreparedVms::PreparedVms(size_t capacity) : capacity_(capacity), thread_([this] { Loop(); }) {}

PreparedVms::~PreparedVms() {
  {
    base::MutexLock lock(&mutex_);
    ending_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

std::optional<VmProcess> PreparedVms::Take(const std::string& name) {
  base::MutexLock lock(&mutex_);
  for (auto place = places_.begin(); place != places_.end(); ++place) {
    if (place->name != name || !place->vm.has_value()) continue;
    std::optional<VmProcess> vm = std::move(place->vm);
    places_.erase(place);
    return vm;
  }
  return std::nullopt;
}

void PreparedVms::Want(const std::string& name, uid_t uid, Starter start) {
  if (capacity_ == 0) return;
  base::MutexLock lock(&mutex_);
  for (auto place = places_.begin(); place != places_.end(); ++place) {
    if (place->name != name) continue;
    places_.splice(places_.begin(), places_, place);
    return;
  }
  if (places_.size() >= capacity_) MakeRoom(uid);
  places_.push_front({name, uid, std::move(start), std::nullopt});
  changed_.SignalAll();
}

// The wanted-longest-ago place of whoever has the most, the newcomer's counted.
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
}

void PreparedVms::DropAll() {
  base::MutexLock lock(&mutex_);
  places_.clear();
}

size_t PreparedVms::size() {
  base::MutexLock lock(&mutex_);
  return static_cast<size_t>(std::count_if(
      places_.begin(), places_.end(), [](const Place& place) { return place.vm.has_value(); }));
}

std::optional<PreparedVms::Place> PreparedVms::NextDue() {
  base::MutexLock lock(&mutex_);
  while (!ending_) {
    for (const Place& place : places_) {
      if (!place.vm.has_value()) return Place{place.name, place.uid, place.start, std::nullopt};
    }
    changed_.Wait(&mutex_);
  }
  places_.clear();
  return std::nullopt;
}

void PreparedVms::Loop() {
  while (std::optional<Place> due = NextDue()) {
    absl::StatusOr<VmProcess> vm = due->start();
    if (!vm.ok()) KTSTR_LOG(WARNING) << "machine not restored ahead: " << vm.status();
    base::MutexLock lock(&mutex_);
    const auto place = std::find_if(places_.begin(), places_.end(), [&](const Place& p) {
      return p.name == due->name && !p.vm.has_value();
    });
    if (place == places_.end()) continue;  // Dropped meanwhile: so is the process.
    if (vm.ok()) {
      place->vm.emplace(*std::move(vm));
    } else {
      places_.erase(place);
    }
  }
}

}  // namespace ktstr::daemon
