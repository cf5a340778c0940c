// SPDX-License-Identifier: Apache-2.0
#include "client/kernel_match.h"

#include <gtest/gtest.h>

#include <string>

namespace ktstr::client {
namespace {

void Add(v1::ListKernelsResponse* kernels, const std::string& key, const std::string& version,
         int64_t created = 1, const std::string& error_kind = "") {
  v1::KernelEntry* entry = kernels->add_kernels();
  entry->set_error_kind(error_kind);
  entry->mutable_metadata()->set_key(key);
  if (!error_kind.empty()) return;
  entry->mutable_metadata()->set_version(version);
  entry->mutable_metadata()->set_release(version + "-cloud-" + key);
  entry->mutable_metadata()->set_created_unix_s(created);
}

// As the daemon lists them: newest version first, corrupt ones last.
v1::ListKernelsResponse Kernels() {
  v1::ListKernelsResponse kernels;
  Add(&kernels, "a", "7.30.1");
  Add(&kernels, "b", "7.3.4", 1);
  Add(&kernels, "c", "7.3.4", 2);
  Add(&kernels, "d", "7.3.1", 9);
  Add(&kernels, "e", "6.18.15");
  Add(&kernels, "f", "", 0, "malformed");
  return kernels;
}

std::string KeyOf(const std::string& id) {
  const v1::ListKernelsResponse kernels = Kernels();
  const v1::KernelEntry* entry = MatchKernel(kernels, id);
  return entry == nullptr ? "none" : entry->metadata().key();
}

TEST(KernelMatchTest, KeyReleaseVersionAndPrefix) {
  EXPECT_EQ(KeyOf("b"), "b");
  EXPECT_EQ(KeyOf("f"), "f");  // To be looked at or cleaned, though corrupt.
  EXPECT_EQ(KeyOf("7.3.4-cloud-b"), "b");
  EXPECT_EQ(KeyOf("7.3.1"), "d");
  EXPECT_EQ(KeyOf("7.3.4"), "c");  // Made later.
  EXPECT_EQ(KeyOf("7.3"), "c");    // Not 7.30.1, and not what is older but was made last.
  EXPECT_EQ(KeyOf("7"), "a");
  EXPECT_EQ(KeyOf("6"), "e");
}

TEST(KernelMatchTest, NothingMatches) {
  for (const char* id : {"", "5", "7.31", "7.3.40", "g", "cloud"}) EXPECT_EQ(KeyOf(id), "none");
}

}  // namespace
}  // namespace ktstr::client
