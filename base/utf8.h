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
// As above, only the last `max_lines` lines, without control characters except newline and tab: no
// escape sequence reaches a terminal.
std::string PrintableTail(std::string_view bytes, size_t max_lines);
// The whole text as above, on one line: newlines and tabs become spaces; spaces at both ends go.
// CutLine (head_tail.h) cuts a text longer than `max_bytes`.
std::string OneLine(std::string_view bytes, size_t max_bytes = std::numeric_limits<size_t>::max());

}  // namespace ktstr::base

#endif  // KTSTR_BASE_UTF8_H_
