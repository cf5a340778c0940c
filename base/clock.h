// SPDX-License-Identifier: Apache-2.0
//
// Host time as an interface, so that time-outs are tested without waiting.

#ifndef KTSTR_BASE_CLOCK_H_
#define KTSTR_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace ktstr::base {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;            // Wall clock, for records.
  virtual absl::Duration Monotonic() const = 0;  // From an arbitrary origin.
};

// The machine's clock; never null, never deleted. Any thread.
const Clock* RealClock();

// Stands still except in Advance(). One thread, or external locking.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time now) : now_(now) {}
  absl::Time Now() const override { return now_ + elapsed_; }
  absl::Duration Monotonic() const override { return elapsed_; }
  void Advance(absl::Duration by) { elapsed_ += by; }

 private:
  absl::Time now_;
  absl::Duration elapsed_ = absl::ZeroDuration();
};

}  // namespace ktstr::base

#endif  // KTSTR_BASE_CLOCK_H_
