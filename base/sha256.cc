// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <openssl/evp.h>

#include <vector>

#include "absl/strings/escaping.h"
#include "base/file.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/string_view.h"

namespace ktstr::base {

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  KTSTR_CHECK(EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;

void Sha256::Update(const void* data, size_t size) {
  KTSTR_CHECK(EVP_DigestUpdate(context_->evp, data, size) == 1);
}

std::string Sha256::FinishHex() {
  unsigned char digest[32];
  KTSTR_CHECK(EVP_DigestFinal_ex(context_->evp, digest, nullptr) == 1);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest)));
}

std::string Sha256Hex(std::string_view data) {
  Sha256 hash;
  hash.Update(data);
  return hash.FinishHex();
}

absl::StatusOr<std::string> Sha256HexOfFd(int fd, std::string_view name) {
  Sha256 hash;
  std::vector<char> buffer(1 << 18);
  for (uint64_t offset = 0;;) {
    KTSTR_ASSIGN_OR_RETURN(const size_t got,
                           ReadAt(fd, buffer.data(), buffer.size(), offset, name));
    hash.Update(buffer.data(), got);
    if (got < buffer.size()) return hash.FinishHex();
    offset += got;
  }
}

bool IsSha256Hex(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace ktstr::base
