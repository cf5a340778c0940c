// SPDX-License-Identifier: Apache-2.0
#include "base/head_tail.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace ktstr::base {
namespace {

TEST(HeadTailTest, KeepsAllThatFits) {
  HeadTail kept(3, 4);
  EXPECT_EQ(kept.Text(), "");
  kept.Append("ab");
  kept.Append("cdefg");
  EXPECT_EQ(kept.Text(), "abcdefg");
  EXPECT_EQ(kept.left_out(), 0u);
}

// Compares with the definition, for every length and every size of piece.
TEST(HeadTailTest, BeginningAndEndWhateverThePieces) {
  std::string all;
  for (int i = 0; i < 40; ++i) all += static_cast<char>('A' + i);
  for (size_t size = 0; size <= all.size(); ++size) {
    for (size_t piece = 1; piece <= 20; ++piece) {
      HeadTail kept(5, 7);
      for (size_t at = 0; at < size; at += piece) {
        kept.Append(std::string_view(all).substr(at, std::min(piece, size - at)));
      }
      const std::string text = all.substr(0, size);
      const std::string expected =
          size <= 12 ? text
                     : absl::StrCat(text.substr(0, 5), "\n[", size - 12,
                                    " bytes of output are left out here]\n", text.substr(size - 7));
      ASSERT_EQ(kept.Text(), expected) << size << " in pieces of " << piece;
      ASSERT_EQ(kept.left_out(), size <= 12 ? 0 : size - 12);
    }
  }
}

TEST(HeadTailTest, OneGapWhereTheSenderLeftOut) {
  HeadTail kept(10, 10);
  kept.Append("begin");
  kept.Skip(100);
  kept.Append("the end");
  EXPECT_EQ(kept.Text(), "begin\n[100 bytes of output are left out here]\nthe end");
  kept.Skip(1);  // A second gap: the text between the two goes, too.
  kept.Append("end");
  EXPECT_EQ(kept.Text(), "begin\n[108 bytes of output are left out here]\nend");
}

TEST(HeadTailTest, NoTailOrNoHead) {
  EXPECT_EQ(CutMiddle("abcdef", 0, 2), "[4 bytes of output are left out here]\nef");
  EXPECT_EQ(CutMiddle("abcdef", 2, 0), "ab\n[4 bytes of output are left out here]\n");
}

TEST(HeadTailTest, CharactersAreNotCut) {
  // Head "ü" + first byte of "ü"; tail: last byte of "ü" + "z".
  EXPECT_EQ(CutMiddle("\xc3\xbc\xc3\xbc mid \xc3\xbcz", 3, 2),
            "\xc3\xbc\n[9 bytes of output are left out here]\nz");
  // Not UTF-8 at all: the number of bytes that go is bounded.
  EXPECT_EQ(CutMiddle(std::string(20, '\x80'), 6, 6),
            absl::StrCat(std::string(6, '\x80'), "\n[11 bytes of output are left out here]\n",
                         std::string(3, '\x80')));
}

TEST(HeadTailTest, Lines) {
  EXPECT_EQ(CutMiddleLines("1\n2\n3\n", 1, 2), "1\n2\n3\n");
  EXPECT_EQ(CutMiddleLines("1\n2\n3\n4\n5\n", 1, 2), "1\n[2 lines are left out here]\n4\n5\n");
  EXPECT_EQ(CutMiddleLines("1\n2\n3\n4\n5", 1, 2), "1\n[2 lines are left out here]\n4\n5");
  EXPECT_EQ(CutMiddleLines("", 1, 2), "");
  EXPECT_EQ(CutMiddleLines("\n\n\n\n", 1, 1), "\n[2 lines are left out here]\n\n");
}

TEST(HeadTailLinesTest, KeepsBothEnds) {
  HeadTailLines lines(2, 2);
  EXPECT_EQ(lines.Text(), "");
  for (const char* line : {"a", "b", "c", "d"}) lines.Append(line);
  EXPECT_EQ(lines.Text(), "a\nb\nc\nd");
  lines.Append("e");
  lines.Append("f");
  EXPECT_EQ(lines.Text(), "a\nb\n[2 lines are left out here]\ne\nf");
}

TEST(CutLineTest, KeepsBothEnds) {
  EXPECT_EQ(CutLine("0123456789", 10), "0123456789");
  EXPECT_EQ(CutLine("0123456789a", 9), "012345[2 bytes are left out here]89a");
  EXPECT_EQ(CutLine("", 0), "");
  EXPECT_EQ(CutLine("abc", 0), "[3 bytes are left out here]");
  // A character that the gap cuts goes with it.
  EXPECT_EQ(CutLine("\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc", 6),
            "\xc3\xbc\xc3\xbc[2 bytes are left out here]\xc3\xbc");
}

}  // namespace
}  // namespace ktstr::base
