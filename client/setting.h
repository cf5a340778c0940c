// SPDX-License-Identifier: Apache-2.0
//
// `--set FIELD=VALUE`: one field of a scenario by its path. Any thread.
//
//   checks.max_gap_ms=500             fields of fields are joined by dots
//   scheduler.attach_timeout_ms=90000
//   step[0].cgroup[1].weight=50       elements of repeated fields count from 0 and must exist
//   scheduler.args[0]=--verbose       a text is taken as it is, without quotes

#ifndef KTSTR_CLIENT_SETTING_H_
#define KTSTR_CLIENT_SETTING_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "ktstr/v1/scenario.pb.h"

namespace ktstr::client {

class Setting {
 public:
  // InvalidArgument, with `text`, when there is no such field or VALUE is none of its type.
  static absl::StatusOr<Setting> Parse(absl::string_view text);

  // InvalidArgument when `scenario` lacks an element that the path names.
  absl::Status Apply(v1::Scenario* scenario) const;

 private:
  struct Part {
    const google::protobuf::FieldDescriptor* field;
    int index;  // Of a repeated field.
  };

  Setting() = default;
  absl::Status Error(absl::string_view what) const;
  absl::Status AddPart(absl::string_view name);
  absl::Status SetLeaf(google::protobuf::Message* message) const;

  std::string text_;
  std::vector<Part> path_;
  std::string value_;
};

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_SETTING_H_
