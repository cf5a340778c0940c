// SPDX-License-Identifier: Apache-2.0

#include "scenario/parse_text.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "scenario/nearest.h"
#include "scenario/text_recovery.h"

namespace ktstr::scenario {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

// Our messages nest at most six deep; the parser skips unknown fields by recursion.
constexpr int kMaxDepth = 32;
// A file with more wrong values is probably of another kind.
constexpr int kMaxSkippedFields = 20;

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

// From 0, as protobuf counts.
struct Place {
  int line = 0;
  int column = 0;
  bool operator<(const Place& other) const {
    return std::tie(line, column) < std::tie(other.line, other.column);
  }
};

struct Complaint {
  Place place;
  std::string message;
};

class Collector : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    errors.push_back({{std::max(line, 0), std::max(column, 0)}, message});
  }
  // Unknown fields are warnings, because AllowUnknownField() lets the parser go on behind them.
  void AddWarning(int line, google::protobuf::io::ColumnNumber column,
                  const std::string& message) override {
    unknown.push_back({{std::max(line, 0), std::max(column, 0)}, message});
  }
  std::vector<Complaint> errors;
  std::vector<Complaint> unknown;
};

// A field that the parser skipped because of its value: it must not also count as missing.
struct SkippedField {
  std::string name;
  Place enclosing;  // Name of the message around it; {-1, -1} at top level.
  bool operator<(const SkippedField& other) const {
    return std::tie(name, enclosing) < std::tie(other.name, other.enclosing);
  }
};
constexpr Place kTopLevel = {-1, -1};

// The text between `after` and the next double quote.
std::string Quoted(const std::string& message, const std::string& after) {
  const size_t begin = message.find(after);
  if (begin == std::string::npos) return "";
  const size_t start = begin + after.size();
  const size_t end = message.find('"', start);
  return end == std::string::npos ? "" : message.substr(start, end - start);
}

struct UnknownField {
  std::string message;  // With the nearest name, else all names.
  std::string nearest;  // Empty: no name is close.
};

UnknownField DescribeUnknown(const std::string& message, std::string_view noun) {
  const std::string type = Quoted(message, "Message type \"");
  const std::string field = Quoted(message, "has no field named \"");
  const std::string extension = Quoted(message, "Ignoring extension \"");
  if (!extension.empty())
    return {absl::StrCat("a ", base::ToAbsl(noun), " has no extension '", extension, "'"), ""};
  const Descriptor* descriptor = DescriptorPool::generated_pool()->FindMessageTypeByName(type);
  if (descriptor == nullptr || field.empty()) return {message, ""};
  std::vector<std::string_view> names;
  std::string all;
  for (int i = 0; i < descriptor->field_count(); ++i) {
    names.push_back(descriptor->field(i)->name());
    absl::StrAppend(&all, all.empty() ? "" : ", ", descriptor->field(i)->name());
  }
  const std::string nearest(NearestName(field, names));
  return {absl::StrCat(descriptor->name(), " has no field '", field, "'",
                       !nearest.empty() ? DidYouMean(field, names)
                       : all.empty()    ? "; it has none"
                                        : absl::StrCat("; it has ", all)),
          nearest};
}

class TextParser {
 public:
  TextParser(std::string_view text, std::string_view file, const TextKind& kind,
             google::protobuf::Message* message)
      : text_(text), file_(file), kind_(kind), message_(message) {
    // Some editors begin a UTF-8 file with a byte order mark.
    if (text_.compare(0, kByteOrderMark.size(), kByteOrderMark) == 0) {
      text_.erase(0, kByteOrderMark.size());
    }
  }

  std::vector<Problem> Run(const std::function<std::vector<Problem>()>& validate) {
    if (CheckText()) {
      const bool whole = ParseWithRecovery();
      if (!unknown_.empty()) AddUnknown();
      if (whole) AddMeaning(validate());
    }
    SortProblems();
    return std::move(problems_);
  }

 private:
  void Add(Place place, std::string field, std::string message) {
    Problem problem;
    problem.file = std::string(file_);
    problem.line = place.line + 1;
    problem.column = place.column + 1;
    problem.field = std::move(field);
    problem.message = std::move(message);
    problems_.push_back(std::move(problem));
  }

  // Refuses text that cannot be such a file at all.
  bool CheckText() {
    if (text_.size() > kind_.max_bytes) {
      Add({}, "",
          absl::StrCat("file of ", text_.size(), " bytes is too large for a ", Noun(), "; at most ",
                       kind_.max_bytes));
      return false;
    }
    if (text_.find('\0') != std::string::npos || base::SanitizeUtf8(text_) != text_) {
      Add({}, "",
          absl::StrCat("this is a binary file, not a ", Noun(),
                       " in protobuf text format (UTF-8)"));
      return false;
    }
    if (!kind_.needs.empty() && text_.find_first_not_of(" \t\r\n\v\f") == std::string::npos) {
      Add({}, "",
          absl::StrCat("the file is empty; a ", Noun(), " needs ", base::ToAbsl(kind_.needs)));
      return false;
    }
    return true;
  }

  // True when the structure is sound: the parser has read or skipped every field.
  bool ParseWithRecovery() {
    std::set<Place> seen;
    for (int skipped = 0;; ++skipped) {
      Collector collector;
      tree_ = std::make_unique<TextFormat::ParseInfoTree>();
      TextFormat::Parser parser;
      parser.RecordErrorsTo(&collector);
      parser.WriteLocationsTo(tree_.get());
      parser.AllowUnknownField(true);
      parser.SetRecursionLimit(kMaxDepth);
      message_->Clear();
      const bool ok = parser.ParseFromString(text_, message_);
      unknown_ = std::move(collector.unknown);
      if (ok && collector.errors.empty()) return true;
      bool recovered = !collector.errors.empty() && skipped < kMaxSkippedFields;
      for (const Complaint& error : collector.errors) {
        if (!seen.insert(error.place).second) {
          recovered = false;
          continue;
        }
        recovered &= ReportAndSkip(error);
      }
      if (!recovered) return false;
    }
  }

  // Reports one error of syntax and blanks the field around it; false when there is no such field.
  bool ReportAndSkip(const Complaint& error) {
    const TextTokens tokens(text_);
    auto index = tokens.At(error.place.line, error.place.column);
    // For this error protobuf reports the place after the value.
    const bool past_value = absl::StartsWith(error.message, "Invalid value for boolean");
    if (past_value && index.value_or(0) > 0) --*index;
    const auto field = index.has_value() ? tokens.FieldOf(*index) : std::nullopt;
    Place place = error.place;
    if (field.has_value()) {
      // For these errors protobuf reports the place after the name.
      if (absl::StartsWith(error.message, "Non-repeated field") ||
          absl::StrContains(error.message, "another member of oneof")) {
        place = PlaceOf(tokens.tokens()[field->name]);
      } else if (past_value && field->value < tokens.tokens().size()) {
        place = PlaceOf(tokens.tokens()[field->value]);
      }
    }
    Add(place, "", index.has_value() ? error.message : AtEndOfFile(error.message));
    if (!field.has_value() || !Skippable(error.message)) return false;
    const TextToken& name = tokens.tokens()[field->name];
    NoteUnread(name.text, tokens, *field);
    Blank(name.begin, tokens.tokens()[field->end - 1].end);
    return true;
  }

  void AddUnknown() {
    const TextTokens tokens(text_);
    for (const Complaint& complaint : unknown_) {
      UnknownField unknown = DescribeUnknown(complaint.message, kind_.noun);
      const auto field = FieldBefore(tokens, complaint.place);
      if (field.has_value()) NoteUnread(unknown.nearest, tokens, *field);
      Add(field.has_value() ? PlaceOf(tokens.tokens()[field->name]) : complaint.place, "",
          std::move(unknown.message));
    }
  }

  static std::string AtEndOfFile(const std::string& message) {
    if (!absl::EndsWith(message, "got: ")) return message;
    return absl::StartsWith(message, "Expected identifier")
               ? "the file ends inside a message: a closing brace is missing"
               : "the file ends where a value is expected";
  }

  // The cause of a broken structure is earlier in the text: going on would only add noise.
  static bool Skippable(const std::string& message) {
    return !absl::StartsWith(message, "Expected identifier") &&
           !absl::StrContains(message, "too deep") && !absl::StartsWith(message, "String literals");
  }

  void Blank(size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (text_[i] != '\n' && text_[i] != '\t') text_[i] = ' ';
    }
  }

  static Place PlaceOf(const TextToken& token) { return {token.line, token.column}; }

  // protobuf reports an unknown field at the token after its name.
  static std::optional<TextField> FieldBefore(const TextTokens& tokens, Place place) {
    const auto index = tokens.At(place.line, place.column);
    if (!index.has_value() || *index == 0) return std::nullopt;
    return tokens.FieldOf(*index - 1);
  }

  // Notes a field that the parser did not read: the message around it is incomplete.
  void NoteUnread(const std::string& name, const TextTokens& tokens, const TextField& field) {
    const Place enclosing =
        field.enclosing.has_value() ? PlaceOf(tokens.tokens()[*field.enclosing]) : kTopLevel;
    skipped_.insert({name, enclosing});
    unread_.insert(enclosing);
  }

  void AddMeaning(std::vector<Problem> problems) {
    for (Problem& problem : problems) {
      bool exact = false;
      const Place place = Locate(problem.field, &exact);
      const std::string leaf = problem.field.substr(problem.field.rfind('.') + 1);
      const bool follows = exact ? unread_.count(place) != 0
                                 : skipped_.count({leaf.substr(0, leaf.find('[')), place}) != 0;
      if (follows) continue;
      Add(place.line < 0 ? Place() : place, std::move(problem.field), std::move(problem.message));
    }
  }

  // Place of the field; else of the closest message around it in the text, and `exact` stays false.
  Place Locate(const std::string& path, bool* exact) const {
    const TextFormat::ParseInfoTree* tree = tree_.get();
    const Descriptor* descriptor = message_->GetDescriptor();
    Place place = kTopLevel;
    for (absl::string_view part : absl::StrSplit(path, '.', absl::SkipEmpty())) {
      const size_t bracket = part.find('[');
      const FieldDescriptor* field =
          descriptor->FindFieldByName(std::string(part.substr(0, bracket)));
      if (field == nullptr) return place;
      int index = -1;
      if (bracket != absl::string_view::npos) {
        index = std::atoi(std::string(part.substr(bracket + 1)).c_str());
      } else if (field->is_repeated()) {
        return place;
      }
      const TextFormat::ParseLocation location = tree->GetLocation(field, index);
      if (location.line < 0) return place;
      place = {location.line, location.column};
      descriptor = field->message_type();
      tree = descriptor == nullptr ? nullptr : tree->GetTreeForNested(field, index);
      if (tree == nullptr) break;
    }
    *exact = place.line >= 0;
    return place;
  }

  void SortProblems() {
    std::stable_sort(problems_.begin(), problems_.end(), [](const Problem& a, const Problem& b) {
      return std::tie(a.line, a.column) < std::tie(b.line, b.column);
    });
  }

  absl::string_view Noun() const { return base::ToAbsl(kind_.noun); }

  std::string text_;
  const std::string_view file_;
  const TextKind& kind_;
  google::protobuf::Message* const message_;
  std::vector<Problem> problems_;
  std::unique_ptr<TextFormat::ParseInfoTree> tree_;
  std::vector<Complaint> unknown_;
  std::set<SkippedField> skipped_;
  std::set<Place> unread_;  // Names of messages with a field that was not read.
};

}  // namespace

std::vector<Problem> ParseTextInto(std::string_view text, std::string_view file_name,
                                   const TextKind& kind, google::protobuf::Message* message,
                                   const std::function<std::vector<Problem>()>& validate) {
  return TextParser(text, file_name, kind, message).Run(validate);
}

}  // namespace ktstr::scenario
