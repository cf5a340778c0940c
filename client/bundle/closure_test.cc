// SPDX-License-Identifier: Apache-2.0
#include "client/bundle/closure.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>

#include "base/file.h"
#include "base/sha256.h"
#include "base/subprocess.h"

namespace ktstr::client {
namespace {

using ::testing::HasSubstr;

std::string Why(const std::string& path) {
  return std::string(ProgramClosure(path, HostLibraryPlaces()).status().message());
}

class ClosureTest : public ::testing::Test {
 protected:
  ClosureTest() : dir_(*base::TempDir::Make("closure")) {}
  std::string Write(const std::string& name, const std::string& data) {
    std::string path = base::JoinPath(dir_.path(), name);
    EXPECT_TRUE(base::WriteFileAtomic(path, data, 0755).ok());
    return path;
  }
  // Compiles with the C compiler of the machine.
  bool Compile(const std::string& script) {
    base::SpawnOptions options;
    options.argv = {"sh", "-ec", script};
    options.cwd = dir_.path();
    const absl::StatusOr<base::RunResult> result = base::RunCommand(options, absl::Seconds(60));
    return result.ok() && result->status.Success();
  }
  base::TempDir dir_;
};

TEST_F(ClosureTest, RealProgram) {
  const auto files = ProgramClosure("/bin/ls", HostLibraryPlaces());
  ASSERT_TRUE(files.ok()) << files.status();
  std::set<std::string> paths;
  for (const BundleFile& file : *files) {
    EXPECT_TRUE(paths.insert(file.ref.guest_path()).second) << file.ref.guest_path();
    EXPECT_TRUE(base::IsSha256Hex(file.ref.sha256()));
    EXPECT_GT(file.ref.size(), 0u);
  }
  EXPECT_EQ(files->front().ref.guest_path(), "bin/ls");
  EXPECT_TRUE(paths.count("root/lib64/ld-linux-x86-64.so.2"));
  EXPECT_TRUE(paths.count("lib/libc.so.6"));
}

TEST_F(ClosureTest, OriginInRunpathAndLibraryOfALibrary) {
  ASSERT_TRUE(
      Compile("mkdir lib; echo 'int b(void){return 1;}' >b.c; echo 'int b(void); int "
              "a(void){return b();}' >a.c;"
              "echo 'int a(void); int main(void){return a();}' >m.c;"
              "cc -shared -fPIC -o lib/libkb.so b.c;"
              "cc -shared -fPIC -o lib/libka.so a.c -Llib -lkb -Wl,-rpath,'$ORIGIN';"
              "cc -o prog m.c -Llib -lka -Wl,-rpath,'$ORIGIN/lib' -Wl,-rpath-link,lib"));
  const auto files = ProgramClosure(base::JoinPath(dir_.path(), "prog"), HostLibraryPlaces());
  ASSERT_TRUE(files.ok()) << files.status();
  std::set<std::string> paths;
  for (const BundleFile& file : *files) paths.insert(file.ref.guest_path());
  EXPECT_TRUE(paths.count("lib/libka.so"));
  EXPECT_TRUE(paths.count("lib/libkb.so"));
  // The error names a missing library and the object that needs it.
  ASSERT_TRUE(Compile("rm lib/libkb.so"));
  EXPECT_THAT(Why(base::JoinPath(dir_.path(), "prog")),
              HasSubstr("shared library libkb.so, needed by "));
}

// As Nix and Guix build: a loader, its libraries and absolute library paths outside of /lib.
TEST_F(ClosureTest, LoaderAndLibrariesOfAStore) {
  ASSERT_TRUE(
      Compile("mkdir -p store/lib; cp -L /lib64/ld-linux-x86-64.so.2 store/lib;"
              "cp -L $(cc -print-file-name=libc.so.6) store/lib; S=$PWD/store/lib;"
              "echo 'int a(void){return 1;}' >a.c; echo 'int b(void){return 1;}' >b.c;"
              "echo 'int a(void); int b(void); int main(void){return a()+b();}' >m.c;"
              "cc -shared -fPIC -o $S/libka.so a.c; cc -shared -fPIC -o $S/libkb.so b.c;"
              // libkb.so has no DT_SONAME: DT_NEEDED holds its path.
              "cc -o prog m.c -L$S -lka $S/libkb.so -Wl,--dynamic-linker=$S/ld-linux-x86-64.so.2 "
              "-Wl,-rpath,$S"));
  const std::string store = base::JoinPath(dir_.path(), "store/lib");
  const auto files = ProgramClosure(base::JoinPath(dir_.path(), "prog"), HostLibraryPlaces());
  ASSERT_TRUE(files.ok()) << files.status();
  std::map<std::string, std::string> paths;
  for (const BundleFile& file : *files) paths[file.ref.guest_path()] = file.path;
  EXPECT_EQ(paths["root" + store + "/ld-linux-x86-64.so.2"], store + "/ld-linux-x86-64.so.2");
  EXPECT_EQ(paths["root" + store + "/libkb.so"], store + "/libkb.so");
  EXPECT_EQ(paths["lib/libka.so"], store + "/libka.so");
  EXPECT_EQ(paths["lib/libc.so.6"], store + "/libc.so.6");  // Its own, not the system's.
  EXPECT_EQ(paths.count("root/lib64/ld-linux-x86-64.so.2"), 0u);
  // A loader of a store looks beside itself, not in the system's directories.
  ASSERT_TRUE(
      Compile("S=$PWD/store/lib; echo 'int main(void){return 0;}' >n.c;"
              "cc -o bare n.c -Wl,--dynamic-linker=$S/ld-linux-x86-64.so.2"));
  const auto bare = ProgramClosure(base::JoinPath(dir_.path(), "bare"), HostLibraryPlaces());
  ASSERT_TRUE(bare.ok()) << bare.status();
  for (const BundleFile& file : *bare) paths[file.ref.guest_path()] = file.path;
  EXPECT_EQ(paths["lib/libc.so.6"], store + "/libc.so.6");
}

TEST_F(ClosureTest, LoaderThatTheGuestCannotHave) {
  ASSERT_TRUE(
      Compile("echo 'int main(void){return 0;}' >m.c;"
              "cc -o none m.c -Wl,--dynamic-linker=/nowhere/ld-linux-x86-64.so.2;"
              "cc -o musl m.c -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1;"
              "cc -o dots m.c -Wl,--dynamic-linker=/lib64/../lib64/ld-linux-x86-64.so.2;"
              "cc -o relative m.c -Wl,--dynamic-linker=ld-linux-x86-64.so.2;"
              "cp -L /lib64/ld-linux-x86-64.so.2 .;"
              "cc -o proc m.c -Wl,--dynamic-linker=/proc/self/cwd/ld-linux-x86-64.so.2"));
  EXPECT_THAT(Why(base::JoinPath(dir_.path(), "none")),
              HasSubstr("needs /nowhere/ld-linux-x86-64.so.2, which is not there"));
  EXPECT_THAT(Why(base::JoinPath(dir_.path(), "musl")), HasSubstr("the guest offers glibc's"));
  EXPECT_THAT(Why(base::JoinPath(dir_.path(), "dots")), HasSubstr("no plain absolute path"));
  EXPECT_THAT(Why(base::JoinPath(dir_.path(), "relative")), HasSubstr("ld-linux-x86-64.so.2"));
  EXPECT_THAT(Why(base::JoinPath(dir_.path(), "proc")), HasSubstr("/proc/self/cwd"));
}

TEST_F(ClosureTest, StaticProgramIsAlone) {
  ASSERT_TRUE(Compile("echo 'int main(void){return 0;}' >m.c; cc -static -o prog m.c"));
  const auto files = ProgramClosure(base::JoinPath(dir_.path(), "prog"), LibraryPlaces());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->size(), 1u);
}

TEST_F(ClosureTest, WhatIsNoProgram) {
  EXPECT_THAT(Why(Write("script", "#!/usr/bin/env python3\nprint()\n")),
              HasSubstr("is a script (#!/usr/bin/env python3)"));
  EXPECT_THAT(Why(Write("empty", "")), HasSubstr("is empty"));
  EXPECT_THAT(Why(Write("text", "hello")), HasSubstr("is not an ELF program"));
  EXPECT_THAT(Why(Write("short",
                        "\x7f"
                        "ELF\2\1\1")),
              HasSubstr("short"));
  EXPECT_THAT(Why(dir_.path()), HasSubstr("is not a regular file"));
  EXPECT_THAT(Why(dir_.path() + "/none"), HasSubstr("none"));
}

TEST_F(ClosureTest, OtherArchitectureAndObjectFile) {
  std::string ls = *base::ReadFile("/bin/ls");
  Elf64_Ehdr header;
  memcpy(&header, ls.data(), sizeof(header));
  header.e_machine = EM_AARCH64;
  memcpy(ls.data(), &header, sizeof(header));
  EXPECT_THAT(Why(Write("arm", ls)), HasSubstr("another architecture"));
  header.e_machine = EM_X86_64;
  header.e_type = ET_REL;
  memcpy(ls.data(), &header, sizeof(header));
  EXPECT_THAT(Why(Write("obj", ls)), HasSubstr("no program"));
}

// Cut and overwritten files give a result or an error, never a crash.
TEST_F(ClosureTest, DamagedFiles) {
  const std::string ls = *base::ReadFile("/bin/ls");
  const LibraryPlaces places = HostLibraryPlaces();
  for (size_t size : {16, 63, 64, 100, 400, 1000, 5000, 30000}) {
    static_cast<void>(ProgramClosure(Write("cut", ls.substr(0, size)), places));
  }
  for (size_t at = 16; at < 64 + 13 * 56; at += 4) {
    std::string bad = ls;
    memset(bad.data() + at, 0xff, 8);
    static_cast<void>(ProgramClosure(Write("bad", bad), places));
  }
}

TEST(Ldconfig, TakesTheFirstOfTheArchitecture) {
  const auto cache = ParseLdconfig(
      "3 libs found in cache `/etc/ld.so.cache'\n"
      "\tlibz.so.1 (libc6) => /lib/i386/libz.so.1\n"
      "\tlibz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1\n"
      "\tlibz.so.1 (libc6,x86-64) => /opt/libz.so.1\n");
  ASSERT_EQ(cache.size(), 1u);
  EXPECT_EQ(cache.at("libz.so.1"), "/lib/x86_64-linux-gnu/libz.so.1");
}

}  // namespace
}  // namespace ktstr::client
