// SPDX-License-Identifier: Apache-2.0
#include "guest/random.h"

namespace ktstr::guest {
namespace {

constexpr uint64_t kGamma = 0x9e3779b97f4a7c15ULL;

// SplitMix64 (Steele, Lea, Flood 2014): its state only counts in steps of kGamma, so any number of
// its sequence can be computed directly.
uint64_t Mix(uint64_t z) {
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
  return z ^ z >> 31;
}

// FNV-1a.
uint64_t HashOf(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

Random::Random(const v1::GuestPlan& plan)
    : seed_(plan.seed()), forks_(plan.seed_fork().begin(), plan.seed_fork().end()) {}

size_t Random::ForksUntil(uint64_t at_ns) const {
  size_t count = 0;
  while (count < forks_.size() && forks_[count].at_ns() <= at_ns) ++count;
  return count;
}

uint64_t Random::SeedAt(uint64_t at_ns) const {
  const size_t forks = ForksUntil(at_ns);
  return forks == 0 ? seed_ : forks_[forks - 1].seed();
}

uint64_t Random::Draw(std::string_view stream, uint64_t index, uint64_t at_ns) const {
  const uint64_t start = Mix(SeedAt(at_ns) + kGamma) ^ HashOf(stream);
  return Mix(start + (index + 1) * kGamma);
}

uint64_t Random::Below(uint64_t bound, std::string_view stream, uint64_t index,
                       uint64_t at_ns) const {
  // The high half of the product: uniform up to 2^-64 times the bound.
  return static_cast<uint64_t>(static_cast<unsigned __int128>(Draw(stream, index, at_ns)) * bound >>
                               64);
}

uint64_t Random::Between(uint64_t low, uint64_t high, std::string_view stream, uint64_t index,
                         uint64_t at_ns) const {
  return high <= low ? low : low + Below(high - low + 1, stream, index, at_ns);
}

}  // namespace ktstr::guest
