// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <time.h>

#include "absl/time/clock.h"

namespace ktstr::base {
namespace {

class SystemClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  absl::Duration Monotonic() const override {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return absl::DurationFromTimespec(now);
  }
};

}  // namespace

const Clock* RealClock() {
  static const SystemClock* const clock = new SystemClock;
  return clock;
}

}  // namespace ktstr::base
