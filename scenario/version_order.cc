// SPDX-License-Identifier: Apache-2.0
#include "scenario/version_order.h"

#include <cctype>
#include <cstddef>

namespace ktstr::scenario {
namespace {

bool IsDigit(char c) { return isdigit(static_cast<unsigned char>(c)) != 0; }

// Takes the leading digits, without leading zeros.
std::string_view TakeNumber(std::string_view* text) {
  size_t end = 0;
  while (end < text->size() && IsDigit((*text)[end])) ++end;
  std::string_view number = text->substr(0, end);
  text->remove_prefix(end);
  while (number.size() > 1 && number.front() == '0') number.remove_prefix(1);
  return number;
}

bool IsCandidate(std::string_view rest) { return rest.substr(0, 3) == "-rc"; }

}  // namespace

int CompareVersions(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    if (IsDigit(a.front()) && IsDigit(b.front())) {
      std::string_view x = TakeNumber(&a);
      std::string_view y = TakeNumber(&b);
      if (x.size() != y.size()) return x.size() < y.size() ? -1 : 1;
      if (int order = x.compare(y); order != 0) return order;
      continue;
    }
    if (IsCandidate(a) != IsCandidate(b)) return IsCandidate(a) ? -1 : 1;
    if (a.front() != b.front()) return a.front() < b.front() ? -1 : 1;
    a.remove_prefix(1);
    b.remove_prefix(1);
  }
  if (a.empty() && b.empty()) return 0;
  if (a.empty()) return IsCandidate(b) ? 1 : -1;
  return IsCandidate(a) ? -1 : 1;
}

bool IsVersionPrefix(std::string_view prefix, std::string_view version) {
  if (prefix.empty() || version.substr(0, prefix.size()) != prefix) return false;
  return version.size() == prefix.size() || !IsDigit(version[prefix.size()]) ||
         !IsDigit(prefix.back());
}

}  // namespace ktstr::scenario
