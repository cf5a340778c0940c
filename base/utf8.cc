// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

#include <cstddef>
#include <cstdint>

#include "base/head_tail.h"

namespace ktstr::base {
namespace {

// Length of the well-formed sequence at the start of `s` (RFC 3629 section 4), 0 when there is
// none.
size_t SequenceLength(std::string_view s) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  uint8_t lead = at(0);
  if (lead < 0x80) return 1;
  size_t length = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  }
  if (length == 0 || s.size() < length || at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

std::string SanitizeUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    size_t length = SequenceLength(bytes);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      length = 1;
    } else {
      out.append(bytes.substr(0, length));
    }
    bytes.remove_prefix(length);
  }
  return out;
}

std::string PrintableTail(std::string_view bytes, size_t max_lines) {
  while (!bytes.empty() && (bytes.back() == '\n' || bytes.back() == '\r')) bytes.remove_suffix(1);
  if (max_lines == 0) return {};
  size_t begin = bytes.size();
  for (size_t lines = 0; lines < max_lines && begin != 0; ++lines) {
    size_t newline = bytes.rfind('\n', begin - 1);
    if (newline == std::string_view::npos) {
      begin = 0;
    } else if (lines + 1 == max_lines) {
      begin = newline + 1;
      break;
    } else {
      begin = newline;
    }
  }
  std::string text;
  for (char c : bytes.substr(begin)) {
    auto byte = static_cast<uint8_t>(c);
    if (c == '\n' || c == '\t' || (byte >= 0x20 && byte != 0x7f)) text += c;
  }
  return SanitizeUtf8(text);
}

std::string OneLine(std::string_view bytes, size_t max_bytes) {
  std::string line = PrintableTail(bytes, std::numeric_limits<size_t>::max());
  for (char& c : line) {
    if (c == '\n' || c == '\t') c = ' ';
  }
  line.erase(0, line.find_first_not_of(' '));
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return CutLine(line, max_bytes);
}

}  // namespace ktstr::base
