// SPDX-License-Identifier: Apache-2.0
//
// A file descriptor with an owner. Any thread; an object is used by one thread at a time.

#ifndef KTSTR_BASE_FD_H_
#define KTSTR_BASE_FD_H_

#include <utility>

namespace ktstr::base {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  // Closes what it owns (errno is kept) and takes `fd`.
  void Reset(int fd = -1);

 private:
  int fd_ = -1;
};

}  // namespace ktstr::base

#endif  // KTSTR_BASE_FD_H_
