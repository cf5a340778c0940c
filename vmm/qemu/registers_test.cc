// SPDX-License-Identifier: Apache-2.0
#include "vmm/qemu/registers.h"

#include "gtest/gtest.h"

namespace ktstr::vmm::qemu {
namespace {

TEST(ParseRegisters, EachCpuOnce) {
  const auto vcpus = ParseRegisters(
      "\r\nCPU#0\r\nRAX=0 RBX=1 RCX=2 RDX=3\r\n"
      "RIP=ffffffff810cf9a3 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n"
      "ES =0000 0000000000000000 00000000 00000000\r\n\r\nCPU#12\r\n"
      "RIP=000000000040100b RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=1\r\n");
  ASSERT_EQ(vcpus.size(), 2u);
  EXPECT_EQ(vcpus[0].cpu(), 0u);
  EXPECT_EQ(vcpus[0].rip(), 0xffffffff810cf9a3u);
  EXPECT_FALSE(vcpus[0].halted());
  EXPECT_FALSE(vcpus[0].user_space());
  EXPECT_EQ(vcpus[1].cpu(), 12u);
  EXPECT_EQ(vcpus[1].rip(), 0x40100bu);
  EXPECT_TRUE(vcpus[1].halted());
  EXPECT_TRUE(vcpus[1].user_space());
}

// The kernel has not started it: a boot that hangs early shows this of every CPU but the first.
TEST(ParseRegisters, ACpuIn16BitModeHasAnEip) {
  const auto vcpus = ParseRegisters(
      "CPU#3\r\nEAX=00000000 EBX=00000000 ECX=00000000 EDX=000a0f10\r\n"
      "EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n");
  ASSERT_EQ(vcpus.size(), 1u);
  EXPECT_EQ(vcpus[0].cpu(), 3u);
  EXPECT_EQ(vcpus[0].rip(), 0xfff0u);
  EXPECT_TRUE(vcpus[0].halted());
}

TEST(ParseRegisters, AnythingElseIsNothing) {
  for (const char* text : {"", "CPU#x\nRIP=1 HLT=0", "RIP=1 HLT=0", "CPU#0\nRIP=xyz HLT=0",
                           "unknown command: 'info registers'"}) {
    EXPECT_TRUE(ParseRegisters(text).empty()) << text;
  }
}

}  // namespace
}  // namespace ktstr::vmm::qemu
