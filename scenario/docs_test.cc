// SPDX-License-Identifier: Apache-2.0
//
// Every example of docs/scenarios.md works as printed. A block "```textproto" is a whole file
// without a problem; a block "```textproto invalid" is followed by a block "```text" with exactly
// its problems, for the file name mine.ktstr.txtpb.

#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "scenario/canned.h"
#include "scenario/parse.h"
#include "scenario/topology.h"

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

}  // namespace
}  // namespace ktstr::scenario
