// SPDX-License-Identifier: Apache-2.0

#include "scenario/json.h"

#include "absl/strings/str_cat.h"
#include "base/utf8.h"
#include "google/protobuf/util/json_util.h"

namespace ktstr::scenario {

absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message, bool pretty) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = pretty;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) {
    return absl::InternalError(
        absl::StrCat(message.GetTypeName(), " as JSON: ", status.ToString()));
  }
  return json;
}

absl::StatusOr<std::string> ToJson(const v1::RunRecord& record, bool pretty) {
  const auto& message = static_cast<const google::protobuf::Message&>(record);
  if (record.scheduler_log().find('\x1b') == std::string::npos) return ToJson(message, pretty);
  v1::RunRecord plain = record;
  plain.set_scheduler_log(base::WithoutEscapes(record.scheduler_log()));
  return ToJson(static_cast<const google::protobuf::Message&>(plain), pretty);
}

absl::Status FromJson(std::string_view json, google::protobuf::Message* message) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  message->Clear();
  const auto status =
      google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, message, options);
  if (!status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("JSON of ", message->GetTypeName(), ": ", status.ToString()));
  }
  return absl::OkStatus();
}

}  // namespace ktstr::scenario
