// SPDX-License-Identifier: Apache-2.0
//
// Small kernels and packages for tests: they have exactly the structures that cache/ reads.

#ifndef KTSTR_CACHE_TEST_KERNEL_H_
#define KTSTR_CACHE_TEST_KERNEL_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "cache/decompress.h"

namespace ktstr::cache {

struct TestKernel {
  std::string release = "7.3.4+test-amd64";
  int machine = 62;  // EM_X86_64
  bool pvh = true;
  bool btf = true;
  bool sched_ext = true;
  std::string build_id = "0123456789abcdefghij";  // Raw bytes.
  size_t padding = 4096;                          // Zero bytes that make it larger.
};
std::string MakeVmlinux(const TestKernel& kernel);
std::string MakeBtf(const std::vector<std::string>& structs);

// `payload` packed as the kernel's build does it: for xz, lz4 and zstd its 32-bit size follows.
std::string Pack(Compression compression, std::string_view payload);
// Without `header_says_payload`: an old boot protocol that lacks payload_offset.
std::string MakeBzImage(std::string_view packed_payload, bool header_says_payload = true);

using TestFiles = std::vector<std::pair<std::string, std::string>>;  // Path -> content.
std::string MakeTar(const TestFiles& files, Compression compression);
// A cpio archive ("newc"), as in an RPM package.
std::string MakeCpio(const TestFiles& files, Compression compression);
struct TestDeb {
  std::string package = "linux-image-7.3.4+test-amd64";
  std::string version = "7.3.4-1";
  std::string architecture = "amd64";
  std::string extra_control;
  TestFiles files;
  Compression compression = Compression::kXz;
};
std::string MakeDeb(const TestDeb& deb);
struct TestRpm {
  std::string name = "kernel-core";
  std::string version = "7.3.4";
  std::string release = "100.fc43";
  std::string architecture = "x86_64";
  std::string compressor = "zstd";  // In the header; `compression` packs the payload.
  TestFiles files;
  Compression compression = Compression::kZstd;
};
std::string MakeRpm(const TestRpm& rpm);
// A package of pacman; `info` is its .PKGINFO; empty: none.
std::string MakePacman(const std::string& info, TestFiles files, Compression compression);
// An ar archive of `members`.
std::string MakeAr(const TestFiles& members);

// A memfd with `data`.
base::UniqueFd FdOf(std::string_view data);

}  // namespace ktstr::cache

#endif  // KTSTR_CACHE_TEST_KERNEL_H_
