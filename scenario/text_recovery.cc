// SPDX-License-Identifier: Apache-2.0

#include "scenario/text_recovery.h"

#include <algorithm>
#include <tuple>

#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace ktstr::scenario {
namespace {

class IgnoreErrors : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {}
};

// Byte offsets of places: the tokenizer reports only lines and columns.
class Offsets {
 public:
  explicit Offsets(std::string_view text) : text_(text) {}
  // Calls must ascend.
  size_t Of(int line, int column) {
    while (offset_ < text_.size() && std::tie(line_, column_) < std::tie(line, column)) {
      const char c = text_[offset_++];
      if (c == '\n') {
        ++line_;
        column_ = 0;
      } else if (c == '\t') {
        column_ += 8 - column_ % 8;
      } else {
        ++column_;
      }
    }
    return offset_;
  }

 private:
  std::string_view text_;
  size_t offset_ = 0;
  int line_ = 0;
  int column_ = 0;
};

bool IsOpener(std::string_view text) { return text == "{" || text == "<" || text == "["; }
bool IsCloser(std::string_view text) { return text == "}" || text == ">" || text == "]"; }
bool IsString(std::string_view text) { return text[0] == '"' || text[0] == '\''; }
bool IsIdentifier(std::string_view text) {
  const char c = text[0];
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

}  // namespace

TextTokens::TextTokens(std::string_view text) {
  google::protobuf::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  IgnoreErrors errors;
  google::protobuf::io::Tokenizer tokenizer(&stream, &errors);
  // As TextFormat sets it up.
  tokenizer.set_comment_style(google::protobuf::io::Tokenizer::SH_COMMENT_STYLE);
  tokenizer.set_allow_f_after_float(true);
  tokenizer.set_require_space_after_number(false);
  tokenizer.set_allow_multiline_strings(false);
  Offsets offsets(text);
  while (tokenizer.Next()) {
    const auto& current = tokenizer.current();
    if (current.text.empty()) continue;
    TextToken token;
    token.text = current.text;
    token.line = current.line;
    token.column = current.column;
    token.begin = offsets.Of(current.line, current.column);
    token.end = std::min(text.size(), token.begin + token.text.size());
    tokens_.push_back(std::move(token));
  }
}

std::optional<size_t> TextTokens::At(int line, int column) const {
  auto it = std::lower_bound(tokens_.begin(), tokens_.end(), std::tie(line, column),
                             [](const TextToken& token, const std::tuple<int&, int&>& place) {
                               return std::tie(token.line, token.column) < place;
                             });
  if (it == tokens_.end() || it->line != line || it->column != column) return std::nullopt;
  return it - tokens_.begin();
}

bool TextTokens::IsNameOf(size_t index) const {
  if (index + 1 >= tokens_.size() || !IsIdentifier(tokens_[index].text)) return false;
  // A bare word after ":" is a value.
  if (index > 0 && tokens_[index - 1].text == ":") return false;
  const std::string& next = tokens_[index + 1].text;
  return next == ":" || next == "{" || next == "<";
}

size_t TextTokens::EndOfValue(size_t value) const {
  size_t at = value;
  if (at < tokens_.size() && tokens_[at].text == "-") ++at;
  if (at >= tokens_.size() || IsCloser(tokens_[at].text)) return at;
  if (IsOpener(tokens_[at].text)) {
    int depth = 0;
    for (; at < tokens_.size(); ++at) {
      if (IsOpener(tokens_[at].text)) ++depth;
      if (IsCloser(tokens_[at].text) && --depth == 0) return at + 1;
    }
    return at;
  }
  if (!IsString(tokens_[at].text)) return at + 1;
  // Adjacent literals are one string.
  while (at < tokens_.size() && IsString(tokens_[at].text)) ++at;
  return at;
}

std::optional<size_t> TextTokens::OpenerBefore(size_t index) const {
  int depth = 0;
  for (size_t i = index; i-- > 0;) {
    if (IsCloser(tokens_[i].text)) ++depth;
    if (IsOpener(tokens_[i].text) && depth-- == 0) return i;
  }
  return std::nullopt;
}

TextField TextTokens::MakeField(size_t name) const {
  TextField field;
  field.name = name;
  field.value = name + 1;
  if (tokens_[field.value].text == ":") ++field.value;
  field.end = EndOfValue(field.value);
  if (auto opener = OpenerBefore(name); opener.has_value() && *opener > 0) {
    const size_t before = *opener - 1;
    field.enclosing = tokens_[before].text == ":" && before > 0 ? before - 1 : before;
  }
  return field;
}

std::optional<TextField> TextTokens::FieldOf(size_t index) const {
  if (index >= tokens_.size()) return std::nullopt;
  if (IsNameOf(index)) return MakeField(index);
  // The error is after the name, in the value, or at the token after the value ("Invalid value for
  // boolean field").
  for (size_t back = 1; back <= 4 && back <= index; ++back) {
    const size_t name = index - back;
    if (!IsNameOf(name)) continue;
    const TextField field = MakeField(name);
    return index <= field.end ? std::optional<TextField>(field) : std::nullopt;
  }
  // The error is in an element of a list.
  auto opener = OpenerBefore(index);
  if (opener.has_value() && tokens_[*opener].text == "[" && *opener >= 2 && IsNameOf(*opener - 2)) {
    return MakeField(*opener - 2);
  }
  return std::nullopt;
}

}  // namespace ktstr::scenario
