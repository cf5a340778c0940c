// SPDX-License-Identifier: Apache-2.0
// The small pieces: files, hashes, CPU lists, text, packets, status.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu_list.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/seqpacket.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/unnamed_file.h"
#include "base/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ktstr::base {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Sha256, MatchesTheStandard) {
  // FIPS 180-2 appendix B.1.
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 pieces;
  pieces.Update("a");
  pieces.Update("bc");
  EXPECT_EQ(pieces.FinishHex(), Sha256Hex("abc"));
  EXPECT_TRUE(IsSha256Hex(Sha256Hex("")));
  EXPECT_FALSE(IsSha256Hex("BA"));
  EXPECT_FALSE(IsSha256Hex(std::string(63, 'a') + "/"));
}

TEST(Crc32c, MatchesTheStandard) {
  EXPECT_EQ(Crc32c("123456789", 9), 0xe3069283u);  // Check value of CRC-32/ISCSI.
  EXPECT_EQ(Crc32c("56789", 5, Crc32c("1234", 4)), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0').data(), 32), 0x8a9136aau);  // RFC 3720 B.4
}

TEST(CpuList, RoundTrips) {
  for (const char* text : {"", "0", "0-3", "0-3,7", "1,3,5-6"}) {
    auto cpus = ParseCpuList(text);
    ASSERT_TRUE(cpus.ok()) << text;
    EXPECT_EQ(FormatCpuList(*cpus), text);
  }
  EXPECT_THAT(*ParseCpuList("3,1-2,2\n"), ElementsAre(1, 2, 3));
}

TEST(CpuList, RefusesNonsense) {
  for (const char* text : {"a", "1-", "-1", "3-1", "1,,2", "1-2-3", "65536", "+1", "1 2"}) {
    EXPECT_EQ(ParseCpuList(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(Utf8, ReplacesOnlyBadBytes) {
  EXPECT_EQ(SanitizeUtf8("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(SanitizeUtf8("a\xff"
                         "b"),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(SanitizeUtf8("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd");  // Overlong.
  EXPECT_EQ(SanitizeUtf8("\xed\xa0\x80").size(), 9u);               // Surrogate.
  EXPECT_EQ(SanitizeUtf8("\xe2\x82"), "\xef\xbf\xbd\xef\xbf\xbd");  // Cut short.
}

TEST(Utf8, PrintableTailKeepsTheLastLinesAndNoControls) {
  EXPECT_EQ(PrintableTail("a\nb\nc\n", 2), "b\nc");
  EXPECT_EQ(PrintableTail("a\nb", 5), "a\nb");
  EXPECT_EQ(PrintableTail("a\nb", 0), "");
  EXPECT_EQ(PrintableTail("", 3), "");
  EXPECT_EQ(PrintableTail("\x1b[31mred\r\n", 1), "red");
  EXPECT_EQ(PrintableTail("a\x1b]0;title\nb", 2), "a0;title\nb");
}

TEST(Utf8, EscapeSequencesGoWhole) {
  EXPECT_EQ(WithoutEscapes("a\x1b[1;31mb\x1b[0mc\n"), "abc\n");
  EXPECT_EQ(WithoutEscapes("\x1b[?25l\x1b[2J\x1b[10;20H1"), "1");
  EXPECT_EQ(WithoutEscapes("\x1b]0;title\ax\x1b]8;;url\x1b\\y"), "xy");
  EXPECT_EQ(WithoutEscapes("\x1b(Bx\x1b"
                           "7y\x1b"
                           "cz"),
            "xyz");
  // What has no end hides no text of the next line, and a string hides none at all.
  EXPECT_EQ(WithoutEscapes("\x1b[31\nx"), "\nx");
  EXPECT_EQ(WithoutEscapes("\x1b]0;\nx\a"), "0;\nx\a");
  EXPECT_EQ(WithoutEscapes("\x1b]0;a\x1b[31mb"), "0;ab");
  EXPECT_EQ(WithoutEscapes("a\x1b"), "a");
  EXPECT_EQ(WithoutEscapes("\x1b[\xff"), "\xff");
}

TEST(Utf8, ColorsStayForATerminal) {
  EXPECT_EQ(PrintableColored("a\x1b[31mb\x1b[0mc\r\n"), "a\x1b[31mb\x1b[0mc\x1b[0m");
  // Each line ends with a reset of what it has set.
  EXPECT_EQ(PrintableColored("\x1b[1;32ma\nb"), "\x1b[1;32ma\x1b[0m\nb");
  // Nothing else reaches the terminal.
  EXPECT_EQ(PrintableColored("\x1b[2J\x1b[3A\x1b]0;t\a\x1b"
                             "c\x1b[>4m\ax"),
            "x");
}

TEST(File, WriteAtomicReplacesAndSetsTheMode) {
  TempDir dir = *TempDir::Make("file_test");
  std::string path = JoinPath(dir.path(), "f");
  ASSERT_TRUE(WriteFileAtomic(path, "one").ok());
  ASSERT_TRUE(WriteFileAtomic(path, "two", 0600).ok());
  EXPECT_EQ(*ReadFile(path), "two");
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_THAT(*ListDir(dir.path()), ElementsAre("f"));
}

// The agent makes directories in cgroup2, where fsync of a directory fails.
TEST(File, FsyncDirWhereNoDiskIsBehindIt) {
  const int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(fsync(fd), -1);
  close(fd);
  EXPECT_TRUE(FsyncDir("/proc").ok()) << FsyncDir("/proc");
  EXPECT_FALSE(FsyncDir("/proc/none").ok());
}

TEST(File, WriteAtomicFailsWithoutLeavingAnything) {
  TempDir dir = *TempDir::Make("file_test");
  std::string path = JoinPath(dir.path(), "d");
  ASSERT_TRUE(MakeDirs(JoinPath(path, "sub")).ok());
  EXPECT_FALSE(WriteFileAtomic(path, "x").ok());  // A directory has that name.
  EXPECT_THAT(*ListDir(dir.path()), ElementsAre("d"));
}

TEST(File, ReadFileNamesThePathAndTheLimit) {
  auto missing = ReadFile("/no/such/file");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr("/no/such/file"));
  EXPECT_EQ(ReadFile("/proc/self/maps", 10).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(File, RemoveAllDoesNotFollowLinks) {
  TempDir dir = *TempDir::Make("file_test");
  std::string keep = JoinPath(dir.path(), "keep");
  std::string gone = JoinPath(dir.path(), "gone");
  ASSERT_TRUE(MakeDirs(JoinPath(keep, "a")).ok());
  ASSERT_TRUE(MakeDirs(JoinPath(gone, "b/c")).ok());
  ASSERT_EQ(symlink(keep.c_str(), JoinPath(gone, "b/link").c_str()), 0);
  ASSERT_TRUE(RemoveAll(gone).ok());
  EXPECT_FALSE(Exists(gone));
  EXPECT_TRUE(Exists(JoinPath(keep, "a")));
  EXPECT_TRUE(RemoveAll(gone).ok());
}

TEST(File, MakeDirsSaysWhatIsInTheWay) {
  TempDir dir = *TempDir::Make("file_test");
  std::string file = JoinPath(dir.path(), "f");
  ASSERT_TRUE(WriteFileAtomic(file, "").ok());
  EXPECT_THAT(MakeDirs(JoinPath(file, "x")).message(), HasSubstr(file));
}

TEST(File, UnnamedFileLeavesNoName) {
  const auto dir = TempDir::Make("unnamed");
  ASSERT_TRUE(dir.ok());
  const auto file = MakeUnnamedFile(dir->path());
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(WriteAll(file->get(), "abc", "unnamed").ok());
  struct stat info;
  ASSERT_EQ(fstat(file->get(), &info), 0);
  EXPECT_EQ(info.st_nlink, 0u);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_TRUE(ListDir(dir->path())->empty());
  EXPECT_THAT(std::string(MakeUnnamedFile(dir->path() + "/no").status().message()),
              HasSubstr(dir->path() + "/no: No such file"));
}

// procfs takes no files at all; the message has the name that MakeUnnamedFile tried instead.
TEST(File, UnnamedFileWithoutTmpfile) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may write where there is no O_TMPFILE (/proc)";
  EXPECT_THAT(std::string(MakeUnnamedFile("/proc").status().message()),
              HasSubstr("create /proc/.unnamed."));
}

TEST(File, Paths) {
  EXPECT_EQ(JoinPath("/a", "b"), "/a/b");
  EXPECT_EQ(JoinPath("/a/", "b"), "/a/b");
  EXPECT_EQ(JoinPath("/a", "/b"), "/b");
  EXPECT_EQ(Basename("/a/b"), "b");
  EXPECT_EQ(Dirname("/a/b"), "/a");
  EXPECT_EQ(Dirname("/a"), "/");
  EXPECT_EQ(Dirname("a"), ".");
}

TEST(Seqpacket, CarriesDataAndDescriptors) {
  auto pair = MakeSeqpacketPair();
  ASSERT_TRUE(pair.ok());
  auto file = MakeMemfd("x", 5);
  ASSERT_TRUE(SendPacket(pair->first.get(), "hello", {file->get(), file->get()}).ok());
  auto packet = ReceivePacket(pair->second.get(), absl::Seconds(5));
  ASSERT_TRUE(packet.ok()) << packet.status();
  EXPECT_EQ(packet->data, "hello");
  ASSERT_EQ(packet->fds.size(), 2u);
  EXPECT_EQ(fcntl(packet->fds[0].get(), F_GETFD), FD_CLOEXEC);
}

// A process that refuses a request and ends has not read what arrived meanwhile.
TEST(Seqpacket, LastWordsComeAlsoFromAPeerThatDidNotListen) {
  auto pair = MakeSeqpacketPair();
  ASSERT_TRUE(pair.ok());
  ASSERT_TRUE(SendPacket(pair->second.get(), "never read").ok());
  ASSERT_TRUE(SendPacket(pair->first.get(), "last words").ok());
  pair->first.Reset();
  auto words = ReceivePacket(pair->second.get(), absl::Seconds(1));
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_EQ(words->data, "last words");
  EXPECT_TRUE(absl::IsOutOfRange(ReceivePacket(pair->second.get(), absl::Seconds(1)).status()));
}

TEST(Seqpacket, TellsEndFromSilence) {
  auto pair = MakeSeqpacketPair();
  EXPECT_EQ(ReceivePacket(pair->second.get(), absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  pair->first.Reset();
  EXPECT_EQ(ReceivePacket(pair->second.get(), absl::Seconds(5)).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(SendPacket(pair->second.get(), "x").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(SendPacket(pair->second.get(), "").code(), absl::StatusCode::kInvalidArgument);
}

TEST(Status, AnnotateKeepsTheCode) {
  absl::Status status = Annotate(ErrnoStatus(ENOSPC, "write /x"), "saving");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "saving: write /x: No space left on device");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
}

TEST(FakeClock, MovesWhenTold) {
  FakeClock clock(absl::UnixEpoch());
  clock.Advance(absl::Seconds(2));
  EXPECT_EQ(clock.Now(), absl::UnixEpoch() + absl::Seconds(2));
  EXPECT_EQ(clock.Monotonic(), absl::Seconds(2));
}

}  // namespace
}  // namespace ktstr::base
