// SPDX-License-Identifier: Apache-2.0
//
// Every example of docs/scenarios.md works as printed. A block "```textproto" is a whole file
// without problems. The block "```text" after a block "```textproto invalid" has exactly the
// problems of that file, under the name mine.ktstr.txtpb.

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "scenario/canned.h"
#include "scenario/checks.h"
#include "scenario/finding_kinds.h"
#include "scenario/limits.h"
#include "scenario/parse.h"
#include "scenario/topology.h"
#include "scenario/work_types.h"

namespace ktstr::scenario {
namespace {

struct Block {
  std::string info;
  std::string text;
};

std::string ReadPage() {
  auto page = base::ReadFile(std::string(KTSTR_SOURCE_DIR) + "/docs/scenarios.md");
  EXPECT_TRUE(page.ok()) << page.status();
  return page.ok() ? *page : "";
}

std::vector<Block> Blocks(const std::string& page) {
  std::vector<Block> blocks;
  size_t at = 0;
  while ((at = page.find("```", at)) != std::string::npos) {
    const size_t line_end = page.find('\n', at);
    const size_t end = page.find("```", line_end);
    if (end == std::string::npos) break;
    blocks.push_back(
        {page.substr(at + 3, line_end - at - 3), page.substr(line_end + 1, end - line_end - 1)});
    at = end + 3;
  }
  return blocks;
}

std::string ProblemsOf(const std::string& text) {
  std::string lines;
  for (const Problem& problem : ParseScenario(text, "mine.ktstr.txtpb").problems) {
    lines += problem.ToString() + "\n";
  }
  return lines;
}

TEST(Docs, ExamplesWorkAsPrinted) {
  const std::vector<Block> blocks = Blocks(ReadPage());
  int good = 0, bad = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i].info == "textproto") {
      ++good;
      EXPECT_EQ(ProblemsOf(blocks[i].text), "") << blocks[i].text;
    } else if (blocks[i].info == "textproto invalid") {
      ++bad;
      ASSERT_LT(i + 1, blocks.size());
      EXPECT_EQ(ProblemsOf(blocks[i].text), blocks[i + 1].text);
    }
  }
  EXPECT_GE(good, 3);
  EXPECT_GE(bad, 1);
}

// The page names every preset, every canned scenario and every field.
TEST(Docs, NothingIsLeftOut) {
  const std::string page = ReadPage();
  auto expect = [&](std::string_view name) {
    EXPECT_NE(page.find("`" + std::string(name)), std::string::npos)
        << "not in docs/scenarios.md: " << name;
  };
  for (const Preset& preset : Presets()) expect(preset.name);
  for (const CannedScenario& canned : CannedScenarios()) expect(canned.name);
  std::vector<const google::protobuf::Descriptor*> todo = {v1::Scenario::descriptor()};
  while (!todo.empty()) {
    const google::protobuf::Descriptor* descriptor = todo.back();
    todo.pop_back();
    for (int i = 0; i < descriptor->field_count(); ++i) {
      expect(descriptor->field(i)->name());
      if (descriptor->field(i)->message_type() != nullptr)
        todo.push_back(descriptor->field(i)->message_type());
    }
  }
}

// The tables of the page equal those of the code, row by row.
TEST(Docs, TablesAreThoseOfTheCode) {
  const std::string page = ReadPage();
  auto expect_row = [&](const std::string& row) {
    EXPECT_NE(page.find("\n" + row + "\n"), std::string::npos) << row;
  };
  for (const Check& check : CheckTable()) {
    const std::string range = RangeText(check);
    expect_row("| `" + std::string(check.field) + "` | " + ValueText(check, check.default_value) +
               (range.empty() ? "" : " (" + range + ")") + " | " + std::string(check.fails_when) +
               " | " + std::string(InfoOf(check.kind).token) + " |");
  }
  for (const FindingKindInfo& info : FindingKinds()) {
    expect_row("| " + std::string(info.token) + " | " + v1::Verdict_Name(info.verdict) + " | " +
               std::string(info.meaning) + " |");
  }
  for (const WorkType& type : WorkTypes()) {
    for (const WorkField& field : type.fields) {
      const std::string text = "`" + std::string(field.name) + "` (" + std::to_string(field.low) +
                               " to " + std::to_string(field.high) + ", default " +
                               std::to_string(field.default_value) + ")";
      EXPECT_NE(page.find(text), std::string::npos) << text;
    }
  }
}

// docs/limits.md has the table of scenario/limits.h, row by row, and no other row.
TEST(Docs, LimitsAreThoseOfTheCode) {
  auto page = base::ReadFile(std::string(KTSTR_SOURCE_DIR) + "/docs/limits.md");
  ASSERT_TRUE(page.ok()) << page.status();
  std::vector<std::string> rows, wanted;
  for (absl::string_view line : absl::StrSplit(*page, '\n')) {
    if (absl::StartsWith(line, "| `") || absl::StartsWith(line, "| each message"))
      rows.emplace_back(line);
  }
  for (const Limit& limit : kLimits) {
    wanted.push_back(absl::StrCat(
        "| ", limit.field.empty() ? "each message" : "`" + std::string(limit.field) + "`", " | ",
        limit.max, " | ", limit.unit.empty() ? "its value" : std::string(limit.unit), " |"));
  }
  EXPECT_EQ(rows, wanted);
}

// The comment above `field` in a .proto file, as one line.
std::string CommentOf(const std::string& proto, const std::string& field) {
  size_t at = proto.find(field);
  EXPECT_NE(at, std::string::npos) << field;
  std::string comment;
  at = proto.rfind('\n', at);
  while (at != std::string::npos && at > 0) {
    const size_t begin = proto.rfind('\n', at - 1) + 1;
    const std::string line = proto.substr(begin, at - begin);
    const size_t text = line.find("// ");
    if (text == std::string::npos || line.find_first_not_of(' ') != text) break;
    comment.insert(0, absl::StrCat(line.substr(text + 3), " "));
    at = begin - 1;
  }
  return comment;
}

TEST(Docs, ProtoCommentsAgreeWithTheTables) {
  auto scenario = base::ReadFile(std::string(KTSTR_SOURCE_DIR) + "/proto/ktstr/v1/scenario.proto");
  auto run = base::ReadFile(std::string(KTSTR_SOURCE_DIR) + "/proto/ktstr/v1/run.proto");
  ASSERT_TRUE(scenario.ok() && run.ok()) << scenario.status() << run.status();
  for (const Check& check : CheckTable()) {
    const std::string comment = CommentOf(*scenario, " " + std::string(check.field) + " = ");
    EXPECT_NE(comment.find("(" + std::string(InfoOf(check.kind).token) + ")"), std::string::npos)
        << check.field << ": " << comment;
    EXPECT_NE(comment.find("Default " + ValueText(check, check.default_value) + "."),
              std::string::npos)
        << check.field << ": " << comment;
  }
  const std::string kinds = CommentOf(*run, "string kind = 1;");
  for (const FindingKindInfo& info : FindingKinds()) {
    EXPECT_NE(kinds.find(info.token), std::string::npos) << info.token;
  }
}

// Only tests may repeat the token of a kind; programs take it from the table.
TEST(Tables, AKindsTokenStandsInOneFile) {
  namespace fs = std::filesystem;
  std::map<std::string, std::set<std::string>> files_of;
  for (const char* folder :
       {"base", "bpf", "cache", "client", "daemon", "guest", "scenario", "vmm"}) {
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(KTSTR_SOURCE_DIR) / folder)) {
      const std::string name = entry.path().filename();
      const std::string extension = entry.path().extension();
      if (extension != ".cc" && extension != ".h" && extension != ".c") continue;
      if (name.find("_test.") != std::string::npos) continue;
      auto text = base::ReadFile(entry.path());
      ASSERT_TRUE(text.ok()) << text.status();
      for (const FindingKindInfo& info : FindingKinds()) {
        if (text->find("\"" + std::string(info.token) + "\"") != std::string::npos)
          files_of[std::string(info.token)].insert(
              fs::relative(entry.path(), KTSTR_SOURCE_DIR).string());
      }
    }
  }
  for (const FindingKindInfo& info : FindingKinds()) {
    EXPECT_EQ(files_of[std::string(info.token)],
              std::set<std::string>({"scenario/finding_kinds.cc"}))
        << info.token;
  }
}

// The tables have one row for each field of the protos.
TEST(Tables, HoldEveryFieldOfTheProtos) {
  std::set<std::string> types, checks, in_types, in_checks;
  const auto* oneof = v1::Work::descriptor()->FindOneofByName("type");
  for (int i = 0; i < oneof->field_count(); ++i) {
    types.insert(oneof->field(i)->name());
    for (int f = 0; f < oneof->field(i)->message_type()->field_count(); ++f)
      types.insert(oneof->field(i)->name() + "." +
                   oneof->field(i)->message_type()->field(f)->name());
  }
  for (const WorkType& type : WorkTypes()) {
    in_types.insert(std::string(type.name));
    EXPECT_EQ(oneof->containing_type()->FindFieldByNumber(type.number)->name(), type.name);
    for (const WorkField& field : type.fields)
      in_types.insert(std::string(type.name) + "." + std::string(field.name));
  }
  EXPECT_EQ(types, in_types);
  for (int i = 0; i < v1::Checks::descriptor()->field_count(); ++i)
    checks.insert(v1::Checks::descriptor()->field(i)->name());
  for (const Check& check : CheckTable()) {
    in_checks.insert(std::string(check.field));
    EXPECT_EQ(v1::Checks::descriptor()->FindFieldByNumber(check.number)->name(), check.field);
  }
  EXPECT_EQ(checks, in_checks);
}

}  // namespace
}  // namespace ktstr::scenario
