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

// Valid UTF-8 (RFC 3629) is kept, each bad byte becomes U+FFFD. Protobuf string fields need it.
std::string SanitizeUtf8(std::string_view bytes);
// As above, with control characters except newline and tab removed (ANSI sequences do not reach a
// terminal), and only the last `max_lines` lines.
std::string PrintableTail(std::string_view bytes, size_t max_lines);
// As above, as one line: newlines and tabs become spaces, and none is left at either end. Longer
// text is cut by CutLine (head_tail.h).
std::string OneLine(std::string_view bytes, size_t max_bytes = std::numeric_limits<size_t>::max());

}  // namespace ktstr::base

#endif  // KTSTR_BASE_UTF8_H_
