// SPDX-License-Identifier: Apache-2.0
//
// What a Perturber drives, for tests: records everything that it asks for. A disturbance has ended
// at the next TakeEnded().

#ifndef KTSTR_GUEST_FAKE_DISTURBER_H_
#define KTSTR_GUEST_FAKE_DISTURBER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "guest/perturber.h"

namespace ktstr::guest {

class FakeDisturber : public Disturber {
 public:
  bool Start(const Disturbance& disturbance) override {
    if (busy) return false;
    started.push_back(disturbance);
    EndedDisturbance& end = ends.emplace_back();
    end.asked = disturbance;
    end.begin_ns = now_ns;
    end.length_ns = disturbance.length_ns;
    end.status = status;
    return true;
  }
  std::vector<EndedDisturbance> TakeEnded() override { return std::exchange(ends, {}); }

  std::vector<Disturbance> started;
  std::vector<EndedDisturbance> ends;
  uint64_t now_ns = 0;  // Stamped on what is started.
  bool busy = false;
  absl::Status status;  // How each ends.
};

class FakeWorkerControl : public WorkerControl {
 public:
  uint32_t Count() const override { return count; }
  bool Alive(uint32_t worker) override { return alive; }
  int DeclaredNice(uint32_t worker) const override { return nice; }
  absl::Status SetNice(uint32_t worker, int value) override {
    calls.push_back(absl::StrCat("nice ", worker, " ", value));
    return status;
  }
  absl::Status MoveAway(uint32_t worker) override {
    calls.push_back(absl::StrCat("away ", worker));
    return status;
  }
  absl::Status MoveHome(uint32_t worker) override {
    calls.push_back(absl::StrCat("home ", worker));
    return status;
  }

  uint32_t count = 0;
  bool alive = true;
  int nice = 0;
  absl::Status status;
  std::vector<std::string> calls;
};

}  // namespace ktstr::guest

#endif  // KTSTR_GUEST_FAKE_DISTURBER_H_
