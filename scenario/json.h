// SPDX-License-Identifier: Apache-2.0
//
// The canonical JSON of our messages: sidecars, `--json`, a kernel's metadata. Its names are a
// contract. Any thread.

#ifndef KTSTR_SCENARIO_JSON_H_
#define KTSTR_SCENARIO_JSON_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/protobuf/message.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::scenario {

// lowerCamelCase names, enums as names, 64-bit integers as strings; fields with default values are
// present. `pretty`: several lines with a newline at the end; else one line without a newline.
absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message, bool pretty);

// The same, without the escape sequences (colours) of the scheduler's log.
absl::StatusOr<std::string> ToJson(const v1::RunRecord& record, bool pretty);

// Replaces `message`. Skips unknown fields, so that a reader sees the schema version of files that
// a newer version wrote. InvalidArgument for wrong syntax or a wrong type.
absl::Status FromJson(std::string_view json, google::protobuf::Message* message);

}  // namespace ktstr::scenario

#endif  // KTSTR_SCENARIO_JSON_H_
