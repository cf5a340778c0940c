// SPDX-License-Identifier: Apache-2.0
#include "guest/random_pool.h"

#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace ktstr::guest {
namespace {

constexpr int kSeedWords = 8;  // 512 bits.

}  // namespace

absl::Status SeedRandomPool(const std::string& path, const Random& random, uint64_t at_ns) {
  KTSTR_ASSIGN_OR_RETURN(base::UniqueFd fd, base::Open(path, O_WRONLY));
  struct {  // rand_pool_info with its buffer; that type ends with a flexible array.
    int entropy_count;
    int buf_size;
    uint64_t words[kSeedWords];
  } entropy;
  static_assert(offsetof(rand_pool_info, buf) == 2 * sizeof(int));
  entropy.entropy_count = sizeof(entropy.words) * 8;
  entropy.buf_size = sizeof(entropy.words);
  for (uint64_t i = 0; i < kSeedWords; ++i)
    entropy.words[i] = random.Draw(stream::kKernelPool, i, at_ns);
  if (ioctl(fd.get(), RNDADDENTROPY, &entropy) != 0)
    return base::ErrnoStatus(errno, absl::StrCat("RNDADDENTROPY on ", path));
  // Without this the pool would use the seed only at a later time of its own choice.
  if (ioctl(fd.get(), RNDRESEEDCRNG) != 0)
    return base::ErrnoStatus(errno, absl::StrCat("RNDRESEEDCRNG on ", path));
  return absl::OkStatus();
}

}  // namespace ktstr::guest
