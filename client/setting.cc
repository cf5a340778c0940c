// SPDX-License-Identifier: Apache-2.0
#include "client/setting.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace ktstr::client {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// The first error of TextFormat, without its position, which is useless in a one-line text.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, google::protobuf::io::ColumnNumber, const std::string& message) override {
    if (message_.empty()) message_ = message;
  }
  const std::string& message() const { return message_; }

 private:
  std::string message_;
};

std::string FieldNames(const Descriptor* type) {
  std::vector<std::string> names;
  for (int i = 0; i < type->field_count(); ++i) names.push_back(type->field(i)->name());
  return absl::StrJoin(names, ", ");
}

// The word for a field of this message in an error.
absl::string_view Kind(const Descriptor& type) {
  return &type == v1::Checks::descriptor() ? "check" : "field";
}

}  // namespace

absl::Status Setting::Error(absl::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat("'", text_, "'", what));
}

absl::Status Setting::AddPart(absl::string_view name) {
  const Descriptor* type = v1::Scenario::descriptor();
  if (!path_.empty()) {
    type = path_.back().field->message_type();
    if (type == nullptr)
      return Error(absl::StrCat(": ", path_.back().field->name(), " has no fields of its own"));
  }
  absl::string_view bare = name;
  int index = -1;
  if (const size_t bracket = name.find('['); bracket != absl::string_view::npos) {
    bare = name.substr(0, bracket);
    const absl::string_view number = name.substr(bracket + 1, name.size() - bracket - 2);
    if (!absl::EndsWith(name, "]") || !absl::SimpleAtoi(number, &index) || index < 0)
      return Error(absl::StrCat(": '", name, "' is not of the form FIELD[NUMBER]"));
  }
  const FieldDescriptor* field = type->FindFieldByName(std::string(bare));
  if (field == nullptr) {
    return Error(
        absl::StrCat(": no ", Kind(*type), " '", bare, "'. There are: ", FieldNames(type)));
  }
  if (field->is_repeated() != (index >= 0)) {
    return Error(absl::StrCat(
        ": ", bare,
        field->is_repeated() ? absl::StrCat(" has several elements: name one, as ", bare, "[0]")
                             : " has one value, not several"));
  }
  path_.push_back({field, index});
  return absl::OkStatus();
}

absl::StatusOr<Setting> Setting::Parse(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> halves =
      absl::StrSplit(text, absl::MaxSplits('=', 1));
  Setting setting;
  setting.text_ = std::string(text);
  setting.value_ = std::string(halves.second);
  if (halves.first.empty() || !absl::StrContains(text, '='))
    return setting.Error(" is not of the form FIELD=VALUE, as checks.max_gap_ms=500");
  for (const absl::string_view name : absl::StrSplit(halves.first, '.'))
    KTSTR_RETURN_IF_ERROR(setting.AddPart(name));
  const FieldDescriptor* leaf = setting.path_.back().field;
  if (leaf->message_type() != nullptr) {
    return setting.Error(absl::StrCat(": ", leaf->name(),
                                      " is set by its fields: ", FieldNames(leaf->message_type())));
  }
  // A value of the wrong type is an error of the text, whatever the scenario is.
  if (leaf->cpp_type() != FieldDescriptor::CPPTYPE_STRING) {
    const std::unique_ptr<Message> scratch(google::protobuf::MessageFactory::generated_factory()
                                               ->GetPrototype(leaf->containing_type())
                                               ->New());
    FirstError error;
    google::protobuf::TextFormat::Parser parser;
    parser.RecordErrorsTo(&error);
    // Accepts a plain value only: a text that opens a second field would set that, too.
    const bool plain = !setting.value_.empty() &&
                       setting.value_.find_first_of(" \t\n:{}#[],;<>") == std::string::npos;
    if (!plain ||
        !parser.MergeFromString(absl::StrCat(leaf->name(), ": ", setting.value_), scratch.get())) {
      return setting.Error(absl::StrCat(": '", setting.value_, "' is no value of ", leaf->name(),
                                        " (", leaf->type_name(), ")",
                                        error.message().empty() ? "" : ": ", error.message()));
    }
  }
  return setting;
}

absl::Status Setting::SetLeaf(Message* message) const {
  const Part& leaf = path_.back();
  const Reflection* reflection = message->GetReflection();
  if (leaf.field->is_repeated()) {
    if (leaf.index >= reflection->FieldSize(*message, leaf.field)) {
      return Error(absl::StrCat(": ", leaf.field->name(), " has ",
                                reflection->FieldSize(*message, leaf.field), " elements"));
    }
    if (leaf.field->cpp_type() != FieldDescriptor::CPPTYPE_STRING)
      return Error(absl::StrCat(": an element of ", leaf.field->name(), " cannot be set"));
    reflection->SetRepeatedString(message, leaf.field, leaf.index, value_);
    return absl::OkStatus();
  }
  if (leaf.field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    reflection->SetString(message, leaf.field, value_);
    return absl::OkStatus();
  }
  const bool set = google::protobuf::TextFormat::MergeFromString(
      absl::StrCat(leaf.field->name(), ": ", value_), message);
  return set ? absl::OkStatus() : Error(": cannot be set");
}

absl::Status Setting::Apply(v1::Scenario* scenario) const {
  Message* message = scenario;
  for (size_t i = 0; i + 1 < path_.size(); ++i) {
    const Part& part = path_[i];
    const Reflection* reflection = message->GetReflection();
    if (!part.field->is_repeated()) {
      message = reflection->MutableMessage(message, part.field);
      continue;
    }
    const int size = reflection->FieldSize(*message, part.field);
    if (part.index >= size)
      return Error(absl::StrCat(": ", part.field->name(), " has ", size, " elements"));
    message = reflection->MutableRepeatedMessage(message, part.field, part.index);
  }
  return SetLeaf(message);
}

}  // namespace ktstr::client
