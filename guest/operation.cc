// SPDX-License-Identifier: Apache-2.0
#include "guest/operation.h"

#include <sys/sysinfo.h>

#include <optional>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/utf8.h"

namespace ktstr::guest {
namespace {

constexpr absl::string_view kMark = "ktstr.guest/operation";

}  // namespace

absl::Status MarkOperation(absl::Status status, v1::OperationFailed::Operation operation) {
  if (!status.ok()) {
    status.SetPayload(kMark, absl::Cord(absl::StrCat(static_cast<int>(operation))));
  }
  return status;
}

v1::OperationFailed::Operation OperationOf(const absl::Status& status) {
  const auto mark = status.GetPayload(kMark);
  int value = 0;
  if (!mark.has_value() || !absl::SimpleAtoi(std::string(*mark), &value)) {
    return v1::OperationFailed::OPERATION_UNSPECIFIED;
  }
  return static_cast<v1::OperationFailed::Operation>(value);
}

v1::OperationFailed DescribeFailure(const absl::Status& status, bool scheduler_enabled,
                                    const std::string& threads_max) {
  v1::OperationFailed failed;
  failed.set_operation(OperationOf(status));
  failed.set_message(base::SanitizeUtf8(std::string(status.message())));
  failed.set_scheduler_enabled(scheduler_enabled);
  struct sysinfo info {};
  if (sysinfo(&info) == 0) {
    failed.set_free_memory_bytes(uint64_t{info.freeram} * info.mem_unit);
    failed.set_tasks(info.procs);
  }
  uint32_t max_tasks = 0;
  const absl::StatusOr<std::string> text = base::ReadFile(threads_max, 64);
  if (text.ok() && absl::SimpleAtoi(*text, &max_tasks)) failed.set_max_tasks(max_tasks);
  return failed;
}

}  // namespace ktstr::guest
