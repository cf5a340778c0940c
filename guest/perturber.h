// SPDX-License-Identifier: Apache-2.0
//
// Disturbs the scenario at moments that the seed draws, as the plan's `perturb` asks. The perturber
// keeps the schedule and the counts; it acts through two narrow interfaces: Disturber on CPUs
// (guest/cpu_disturber.h), WorkerControl on workers.
//
// Disturbances of one kind are due 0.5 to 1.5 of the kind's period apart. The perturber does not
// begin one that would end after the steps, and counts one as missed when an earlier one still has
// its place. It never postpones one: the schedule is a function of seed and plan alone.
//
// The agent's loop calls Poll at every wake-up and wakes at next_ns(). One thread.

#ifndef KTSTR_GUEST_PERTURBER_H_
#define KTSTR_GUEST_PERTURBER_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "guest/random.h"
#include "guest/reporter.h"
#include "ktstr/v1/guest.pb.h"

namespace ktstr::guest {

// BURST, TIMERS, IPIS on `cpu`, or HOTPLUG of it.
struct Disturbance {
  v1::Perturbation::Kind kind = v1::Perturbation::KIND_UNSPECIFIED;
  uint32_t cpu = 0;
  uint64_t length_ns = 0;
};

struct EndedDisturbance {
  Disturbance asked;
  uint64_t begin_ns = 0;  // CLOCK_MONOTONIC, as it really was.
  uint64_t length_ns = 0;
  absl::Status status;  // What the kernel refused.
};

class Disturber {
 public:
  virtual ~Disturber() = default;
  // Never waits. False when an earlier one is in its place.
  virtual bool Start(const Disturbance& disturbance) = 0;
  // Those that have ended since the last call.
  virtual std::vector<EndedDisturbance> TakeEnded() = 0;
};

// Workers by their index; the count only grows.
class WorkerControl {
 public:
  virtual ~WorkerControl() = default;
  virtual uint32_t Count() const = 0;
  virtual bool Alive(uint32_t worker) = 0;
  virtual int DeclaredNice(uint32_t worker) const = 0;
  virtual absl::Status SetNice(uint32_t worker, int nice) = 0;
  // To the sibling of its cgroup, and home again.
  virtual absl::Status MoveAway(uint32_t worker) = 0;
  virtual absl::Status MoveHome(uint32_t worker) = 0;
};

class Perturber {
 public:
  static constexpr uint64_t kNever = ~uint64_t{0};

  // The pointers outlive the perturber.
  Perturber(const v1::GuestPerturb& plan, const Random* random, Disturber* disturber,
            WorkerControl* workers, Reporter* reporter);

  // The first step begins.
  void Begin(uint64_t now_ns);
  // Sets the priorities of workers that were added and wait for their start.
  void SetPriorities(uint64_t now_ns);
  // When Poll has something to do next; kNever: nothing.
  uint64_t next_ns() const;
  void Poll(uint64_t now_ns);
  // The steps are over: begins nothing more, and moves a worker that is away home.
  void Stop(uint64_t now_ns);
  // Once everything has ended: reports what is left, and the totals.
  void ReportTotals();

 private:
  struct Counts {
    uint32_t done = 0;
    uint32_t failed = 0;
    uint32_t missed = 0;
    std::string last_error;
  };
  // Times are ns since the first step began, unless a comment differs.
  struct Source {
    v1::GuestDisturbance plan;
    std::string_view stream;
    uint64_t index = 0;  // Of the next one.
    uint64_t next = 0;   // kNever: no more.
  };
  static constexpr uint32_t kNobody = ~0u;

  void Schedule(uint64_t after, Source* source) const;
  void Fire(Source* source);
  void FireMove(uint64_t length_ns, uint64_t draw_at, uint64_t index);
  void EndMove(uint64_t now);
  void SetNice(uint32_t worker, int nice, uint64_t now);
  void ScheduleChangePoint(uint64_t from);
  void ChangePriority();
  void ReportEnded();
  // Counts an error; false when `status` is one.
  bool Count(v1::Perturbation::Kind kind, const absl::Status& status);
  void Report(v1::Perturbation perturbation, uint64_t begin, uint64_t length);

  const v1::GuestPerturb plan_;
  const Random* random_;
  Disturber* disturber_;
  WorkerControl* workers_;
  Reporter* reporter_;
  uint64_t start_ns_ = 0;  // CLOCK_MONOTONIC; 0: not begun, or stopped.
  std::vector<Source> sources_;
  std::map<v1::Perturbation::Kind, Counts> counts_;
  uint32_t with_priority_ = 0;  // Workers below this index have theirs.
  uint32_t change_points_ = 0;  // Reached so far.
  uint64_t next_change_ = kNever;
  uint32_t away_ = kNobody;  // The worker that is in the sibling cgroup.
  uint64_t away_since_ = 0;
  uint64_t home_at_ = kNever;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_PERTURBER_H_
