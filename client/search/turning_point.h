// SPDX-License-Identifier: Apache-2.0
//
// Finds the guest time from which on a failure is certain, by bisection over the moment of the seed
// fork: proposes the next moment, and the caller reports how many forks failed. One thread.

#ifndef KTSTR_CLIENT_SEARCH_TURNING_POINT_H_
#define KTSTR_CLIENT_SEARCH_TURNING_POINT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace ktstr::client {

// A later fork shares more of the failed run. The search assumes that after a moment at which all
// forks fail, all later forks fail too.
class TurningPoint {
 public:
  // Moments from `first_ms` (another seed from the beginning on, when it is 0) to `last_ms`, where
  // the finding is. `resolution_ms`: the distance at which the search ends. `forks`: per moment.
  TurningPoint(uint32_t first_ms, uint32_t last_ms, uint32_t resolution_ms, uint32_t forks)
      : first_ms_(first_ms), last_ms_(last_ms), resolution_ms_(resolution_ms), forks_(forks) {}

  // Next moment to try; nullopt: done.
  std::optional<uint32_t> Next() const;
  void Report(uint32_t at_ms, uint32_t failures) { failures_[at_ms] = failures; }

  // The earliest moment at which all forks failed; nullopt: none.
  std::optional<uint32_t> certain_from() const;
  // Moment -> failures, in order of time.
  const std::map<uint32_t, uint32_t>& points() const { return failures_; }
  std::string TableText() const;
  // One sentence.
  std::string Conclusion() const;

 private:
  bool AllFailed(uint32_t at_ms) const;
  std::string Moment(uint32_t at_ms) const;
  // The latest moment before `certain` at which a fork did not fail; nullopt: none.
  std::optional<uint32_t> OpenBefore(uint32_t certain) const;

  const uint32_t first_ms_;
  const uint32_t last_ms_;
  const uint32_t resolution_ms_;
  const uint32_t forks_;
  std::map<uint32_t, uint32_t> failures_;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_TURNING_POINT_H_
