// SPDX-License-Identifier: Apache-2.0
//
// The confidence interval of a failure rate. Pure functions, any thread.

#ifndef KTSTR_CLIENT_SEARCH_WILSON_H_
#define KTSTR_CLIENT_SEARCH_WILSON_H_

#include <cstdint>
#include <string>

namespace ktstr::client {

struct Interval {
  double low = 0;
  double high = 1;
};

// The score interval of E. B. Wilson, "Probable inference, the law of succession, and statistical
// inference", Journal of the American Statistical Association 22 (1927), 209-212, for `hits` of
// `trials` at 95 % (z = 1.959964). Unlike the normal approximation it stays in [0, 1] and has a
// width for 0 hits: 0 of 100 gives 0 to 3.7 %. No trials: [0, 1].
Interval WilsonInterval(uint64_t hits, uint64_t trials);

// "3 of 100 (3.0 %, 95 % interval 1.0 to 8.5 %)"
std::string RateText(uint64_t hits, uint64_t trials);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SEARCH_WILSON_H_
