// SPDX-License-Identifier: Apache-2.0
#include "vmm/kernel_symbols.h"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "gtest/gtest.h"
#include "vmm/kallsyms.h"
#include "vmm/testing/kernel_image.h"

namespace ktstr::vmm {
namespace {

using testing::kKernelBase;
using testing::Layout;
using testing::TestSymbol;

// More than two markers' worth of functions, 0x40 bytes each from 0x400 on, between some others.
std::vector<TestSymbol> Symbols(bool absolute) {
  std::vector<TestSymbol> symbols;
  if (absolute) symbols = {{0, "Dfixed_percpu_data"}, {0x1000, "dcpu_tss"}};
  symbols.push_back({kKernelBase, "T_text"});
  symbols.push_back({kKernelBase, "tstartup_64"});
  symbols.push_back({kKernelBase + 0x100, "Wsched_clock"});
  symbols.push_back({kKernelBase + 0x200, absl::StrCat("t", std::string(300, 'x'))});
  symbols.push_back({kKernelBase + 0x300, "tdo_idle"});
  for (uint64_t i = 0; i < 600; ++i) {
    symbols.push_back({kKernelBase + 0x400 + i * 0x40, absl::StrCat("tsched_fn", i)});
  }
  symbols.push_back({kKernelBase + 0x20000, "Djiffies"});
  symbols.push_back({kKernelBase + 0x20040, "B_end"});
  return symbols;
}

void ExpectSymbols(const KernelSymbols& symbols) {
  EXPECT_EQ(symbols.At(kKernelBase), "_text+0x0");
  EXPECT_EQ(symbols.At(kKernelBase + 0xff), "_text+0xff");
  EXPECT_EQ(symbols.At(kKernelBase + 0x100), "sched_clock+0x0");
  EXPECT_EQ(symbols.At(kKernelBase + 0x210), absl::StrCat(std::string(125, 'x'), "...+0x10"));
  EXPECT_EQ(symbols.At(kKernelBase + 0x30f), "do_idle+0xf");
  for (uint64_t i = 0; i < 600; ++i) {
    EXPECT_EQ(symbols.At(kKernelBase + 0x400 + i * 0x40 + 4), absl::StrCat("sched_fn", i, "+0x4"));
  }
}

void ExpectNone(const KernelSymbols& symbols, uint64_t address) {
  EXPECT_EQ(symbols.At(address), "") << std::hex << address;
}

class KallsymsTest : public ::testing::TestWithParam<Layout> {
 protected:
  std::string Image() const {
    return testing::KallsymsImage(GetParam(), Symbols(testing::IsBeforeNames(GetParam())));
  }
};

TEST_P(KallsymsTest, NamesTheFunctionAtAnAddress) {
  const KernelSymbols symbols = KernelSymbols::Parse(Image());
  ExpectSymbols(symbols);
  ExpectNone(symbols, kKernelBase + 0x20000);  // Data.
  ExpectNone(symbols, kKernelBase + 0x20040);  // The last one has no end.
  ExpectNone(symbols, kKernelBase - 1);
  ExpectNone(symbols, 0);
  ExpectNone(symbols, 0x1000);
  ExpectNone(symbols, 0xffffffffc0000000);  // A module.
  ExpectNone(symbols, UINT64_MAX);
}

TEST_P(KallsymsTest, ReadsAFileFromItsStart) {
  base::UniqueFd file = *base::MakeMemfd("kernel", 0);
  ASSERT_TRUE(base::WriteAll(file.get(), Image(), "kernel").ok());
  ASSERT_NE(lseek(file.get(), 0, SEEK_CUR), 0);
  ExpectSymbols(KernelSymbols::Read(file.get()));
}

TEST_P(KallsymsTest, FewSymbolsAndEveryPadding) {
  for (size_t count = 1; count < 40; ++count) {
    std::vector<TestSymbol> few;
    for (size_t i = 0; i < count; ++i) {
      few.push_back({kKernelBase + i * 16, absl::StrCat("t", std::string(i % 7 + 1, 'f'))});
    }
    few.push_back({kKernelBase + 0x1000, "B_end"});
    const KernelSymbols symbols = KernelSymbols::Parse(testing::KallsymsImage(GetParam(), few));
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(symbols.At(few[i].address + 1), absl::StrCat(few[i].name.substr(1), "+0x1"))
          << count;
    }
  }
}

// An image that is cut short has no symbols, or names that are right.
TEST_P(KallsymsTest, CutShort) {
  const std::string image = Image();
  EXPECT_EQ(KernelSymbols::Parse(image.substr(0, image.size() - 1)).size(), 0u);
  for (uint64_t size = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr); size < image.size(); size += 97) {
    std::string cut = image.substr(0, size);
    const uint64_t left = size - std::min<uint64_t>(size, 128);
    memcpy(cut.data() + sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_filesz), &left, sizeof(left));
    const std::string name = KernelSymbols::Parse(cut).At(kKernelBase + 0x30f);
    EXPECT_TRUE(name.empty() || name == "do_idle+0xf") << size << name;
  }
}

TEST_P(KallsymsTest, DamagedBytesNeverGiveUnprintableNames) {
  const std::string image = Image();
  for (size_t at = 0; at < image.size(); at += 13) {
    std::string damaged = image;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x95);
    const KernelSymbols symbols = KernelSymbols::Parse(damaged);
    for (uint64_t offset = 0; offset < 0x20100; offset += 0x3f1) {
      for (const char c : symbols.At(kKernelBase + offset)) EXPECT_TRUE(c > ' ' && c < 0x7f) << at;
    }
  }
}

TEST_P(KallsymsTest, AddressesThatDescendAreNoTable) {
  std::vector<TestSymbol> symbols = Symbols(false);
  std::swap(symbols[4].address, symbols[5].address);
  EXPECT_EQ(KernelSymbols::Parse(testing::KallsymsImage(GetParam(), symbols)).size(), 0u);
}

// Each of 16384 places looks like the start of 65539 names of three bytes: the word before it is
// that number, and the markers fit. None of them ends where the markers begin.
TEST(KallsymsBoundTest, LooksAtABoundedNumberOfNames) {
  constexpr uint32_t kNames = 0x10003;
  constexpr uint32_t kMarkers = (kNames + 255) / 256;
  constexpr size_t kSizeOfName = sizeof(uint32_t);
  std::string image;
  for (size_t i = 0; i < (size_t{64} << 10) / kSizeOfName + kNames; ++i) {
    testing::AppendAs(kNames, &image);
  }
  for (size_t i = 0; i < 16; ++i) testing::AppendAs(uint32_t{0}, &image);
  for (size_t marker = 0; marker < kMarkers; ++marker) {
    testing::AppendAs(static_cast<uint32_t>(marker * 256 * kSizeOfName), &image);
  }
  testing::AppendTokens(8, &image);
  uint64_t looked_at = 0;
  EXPECT_FALSE(Kallsyms::Find(image, kKernelBase, kKernelBase, UINT64_MAX, &looked_at).has_value());
  EXPECT_EQ(looked_at, Kallsyms::kMaxLooks);
}

INSTANTIATE_TEST_SUITE_P(All, KallsymsTest,
                         ::testing::Values(Layout::kBeforeNames, Layout::kBeforeNamesWithSequences,
                                           Layout::kBehindTokens, Layout::kAtOwnPlace));

TEST(KernelSymbolsTest, OfASymbolTable) {
  const KernelSymbols symbols = KernelSymbols::Parse(testing::SymtabImage(Symbols(false)));
  ExpectSymbols(symbols);
  ExpectNone(symbols, kKernelBase - 1);
  ExpectNone(symbols, kKernelBase + 0x20040);
}

TEST(KernelSymbolsTest, NoKernelHasNoSymbols) {
  for (const std::string& image :
       {std::string(),
        std::string("\x7f"
                    "ELF"),
        std::string(100000, '0'),
        testing::KallsymsSegment(Layout::kBehindTokens, kKernelBase, Symbols(false))}) {
    const KernelSymbols symbols = KernelSymbols::Parse(image);
    EXPECT_EQ(symbols.size(), 0u);
    ExpectNone(symbols, kKernelBase + 0x100);
  }
  ExpectNone(KernelSymbols(), kKernelBase);
  ExpectNone(KernelSymbols::Read(-1), kKernelBase);
}

}  // namespace
}  // namespace ktstr::vmm
