// SPDX-License-Identifier: Apache-2.0
//
// Untrusted bytes as text.

#ifndef KTSTR_BASE_UTF8_H_
#define KTSTR_BASE_UTF8_H_

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

namespace ktstr::base {

// Keeps valid UTF-8 (RFC 3629) and replaces each bad byte by U+FFFD: for Protobuf string fields.
std::string SanitizeUtf8(std::string_view bytes);
// Without the escape sequences of ECMA-48 (colours, cursor movements, titles). A sequence ends with
// its line at the latest.
std::string WithoutEscapes(std::string_view bytes);
// As SanitizeUtf8 and WithoutEscapes, only the last `max_lines` lines, without control characters
// except newline and tab.
std::string PrintableTail(std::string_view bytes, size_t max_lines);
// The whole text as PrintableTail, with the colours (SGR sequences) kept: for a terminal. Each line
// that sets one ends with a reset.
std::string PrintableColored(std::string_view bytes);
// The whole text as PrintableTail, on one line: newlines and tabs become spaces; spaces at both
// ends go. CutLine (head_tail.h) cuts a text longer than `max_bytes`.
std::string OneLine(std::string_view bytes, size_t max_bytes = std::numeric_limits<size_t>::max());

}  // namespace ktstr::base

#endif  // KTSTR_BASE_UTF8_H_
