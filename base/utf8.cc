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

constexpr char kEscape = '\x1b';
constexpr std::string_view kReset = "\x1b[0m";

bool IsIn(char c, uint8_t low, uint8_t high) {
  const auto byte = static_cast<uint8_t>(c);
  return byte >= low && byte <= high;
}

// Length of the escape sequence at the start of `s`, which begins with ESC (ECMA-48, sections 5.3
// to 5.6). A sequence that breaks off is as long as its well-formed part.
size_t EscapeLength(std::string_view s) {
  s = s.substr(0, s.find('\n'));
  if (s.size() < 2) return 1;
  const char kind = s[1];
  if (kind == '[') {
    size_t end = 2;
    while (end < s.size() && IsIn(s[end], 0x30, 0x3f)) ++end;
    while (end < s.size() && IsIn(s[end], 0x20, 0x2f)) ++end;
    return end < s.size() && IsIn(s[end], 0x40, 0x7e) ? end + 1 : end;
  }
  if (std::string_view("]PX^_").find(kind) != std::string_view::npos) {
    // A string, until BEL or ESC \; without an end only its introducer goes, not the text.
    const size_t end = s.find_first_of("\a\x1b", 2);
    if (end == std::string_view::npos) return 2;
    if (s[end] == '\a') return end + 1;
    return s.substr(end, 2) == "\x1b\\" ? end + 2 : 2;
  }
  size_t end = 1;
  while (end < s.size() && IsIn(s[end], 0x20, 0x2f)) ++end;
  return end < s.size() && IsIn(s[end], 0x30, 0x7e) ? end + 1 : end;
}

// Whether it sets colours or the weight of letters, and does nothing else.
bool IsColor(std::string_view escape) {
  return escape.size() >= 3 && escape[1] == '[' && escape.back() == 'm' &&
         escape.find_first_not_of("0123456789;", 2) == escape.size() - 1;
}

// Without control characters except newline and tab, and without escape sequences, or without those
// that are no colours.
std::string Printable(std::string_view bytes, bool keep_colors) {
  std::string text;
  bool colored = false;  // This line has a colour.
  while (!bytes.empty()) {
    const char c = bytes[0];
    size_t length = 1;
    if (c == kEscape) {
      length = EscapeLength(bytes);
      if (keep_colors && IsColor(bytes.substr(0, length))) {
        text.append(bytes.substr(0, length));
        colored = true;
      }
    } else if (c == '\n' || c == '\t' || (!IsIn(c, 0, 0x1f) && c != '\x7f')) {
      if (c == '\n' && colored) {
        text += kReset;
        colored = false;
      }
      text += c;
    }
    bytes.remove_prefix(length);
  }
  if (colored) text += kReset;
  return SanitizeUtf8(text);
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
  return Printable(bytes.substr(begin), /*keep_colors=*/false);
}

std::string PrintableColored(std::string_view bytes) {
  while (!bytes.empty() && (bytes.back() == '\n' || bytes.back() == '\r')) bytes.remove_suffix(1);
  return Printable(bytes, /*keep_colors=*/true);
}

std::string WithoutEscapes(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t plain = bytes.find(kEscape);
    text.append(bytes.substr(0, plain));
    if (plain == std::string_view::npos) break;
    bytes.remove_prefix(plain);
    bytes.remove_prefix(EscapeLength(bytes));
  }
  return text;
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
