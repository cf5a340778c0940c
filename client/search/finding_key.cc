// SPDX-License-Identifier: Apache-2.0
#include "client/search/finding_key.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scenario/finding_kinds.h"

namespace ktstr::client {
namespace {

constexpr char kDigits[] = "0123456789";
constexpr char kHexDigits[] = "0123456789abcdefABCDEF";

// Length of the number at the beginning of `text`; 0 when there is none.
size_t NumberLength(absl::string_view text) {
  if (text.size() > 2 && text[0] == '0' && text[1] == 'x') {
    const size_t end = text.find_first_not_of(kHexDigits, 2);
    if (end != 2) return end == absl::string_view::npos ? text.size() : end;
  }
  size_t end = std::min(text.size(), text.find_first_not_of(kDigits));
  if (end > 0 && end + 1 < text.size() && text[end] == '.' && absl::ascii_isdigit(text[end + 1])) {
    end = std::min(text.size(), text.find_first_not_of(kDigits, end + 1));
  }
  return end;
}

// Length of the version and the target triple behind the name of a scheduler of the scx crates
// (scx_utils, build_id): "bpfland_1.1.4_x86_64_unknown_linux_gnu"; 0 when `text` does not begin
// with one.
size_t BuildIdLength(absl::string_view text) {
  if (text.size() < 2 || text[0] != '_') return 0;
  const size_t number = NumberLength(text.substr(1));
  if (number == 0 || !absl::StrContains(text.substr(1, number), '.')) return 0;
  size_t end = 1;
  while (end < text.size() &&
         (absl::ascii_isalnum(text[end]) ||
          absl::string_view("_.-+").find(text[end]) != absl::string_view::npos)) {
    ++end;
  }
  return absl::StrContains(text.substr(0, end), "_linux_") ? end : 0;
}

}  // namespace

std::string Normalized(absl::string_view message) {
  message = message.substr(0, message.find(';'));
  std::string out;
  while (!message.empty()) {
    if (!out.empty() && out.back() != ' ') {
      message.remove_prefix(BuildIdLength(message));
      if (message.empty()) break;
    }
    const size_t length = NumberLength(message);
    out += length > 0 ? 'N' : message[0];
    message.remove_prefix(length > 0 ? length : 1);
  }
  return std::string(absl::StripAsciiWhitespace(out));
}

std::string FindingKey::PlaceText() const {
  if (where.empty()) return kind;
  return absl::StrCat(kind, " (", where, ")");
}

std::string FindingKey::Text() const {
  return absl::StrCat(PlaceText(), message.empty() ? "" : ": ", message);
}

FindingKey KeyOf(const v1::RunRecord& record) {
  FindingKey key;
  if (record.findings().empty()) return key;
  const v1::Finding& finding = record.findings(0);
  key.kind = finding.kind();
  key.where = finding.where();
  const bool died = scenario::IsKind(finding, scenario::FindingKind::kSchedulerDied) &&
                    !finding.observed().empty();
  key.message = Normalized(died ? finding.observed() : finding.message());
  return key;
}

}  // namespace ktstr::client
