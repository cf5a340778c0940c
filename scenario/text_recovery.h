// SPDX-License-Identifier: Apache-2.0
//
// Finds the field around a parse error, so that the parser can go on without it: protobuf's
// TextFormat stops at the first wrong value, and a user wants to see all of them. Internal to
// parse_text.cc. One thread.

#ifndef KTSTR_SCENARIO_TEXT_RECOVERY_H_
#define KTSTR_SCENARIO_TEXT_RECOVERY_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ktstr::scenario {

// Lines and columns count from 0, as protobuf's do.
struct TextToken {
  std::string text;
  int line = 0;
  int column = 0;
  size_t begin = 0;  // Byte offsets.
  size_t end = 0;
};

// "name: value" or "name { ... }" as token indexes.
struct TextField {
  size_t name;   // Token of the field's name.
  size_t end;    // One past the last token.
  size_t value;  // First token of the value; `end` when there is none.
  // Name token of the message field around it; unset at top level.
  std::optional<size_t> enclosing;
};

class TextTokens {
 public:
  // Splits as protobuf's tokenizer does; leaves out bytes that are no token.
  explicit TextTokens(std::string_view text);

  const std::vector<TextToken>& tokens() const { return tokens_; }
  // Token that starts at this place.
  std::optional<size_t> At(int line, int column) const;
  // The innermost field for an error at token `index`; nullopt: none.
  std::optional<TextField> FieldOf(size_t index) const;

 private:
  bool IsNameOf(size_t index) const;
  size_t EndOfValue(size_t value) const;
  std::optional<size_t> OpenerBefore(size_t index) const;
  TextField MakeField(size_t name) const;

  std::vector<TextToken> tokens_;
};

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_TEXT_RECOVERY_H_
