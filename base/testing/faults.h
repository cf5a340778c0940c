// SPDX-License-Identifier: Apache-2.0
//
// Faults of the file system, for tests of what a program keeps on disk. A test program that links
// faults.cc has these calls of the C library replaced, in all of its code and in the shared
// libraries that it uses (sqlite, libarchive): open, read, write, fsync, rename, unlink, mkdir and
// their relatives. Calls on paths below one directory are counted, and the n-th of those that can
// fail in a given way fails, once or from then on. Everything else goes through untouched, but for
// fsync, which never waits for the disk.
//
//   for (uint64_t n = 1;; ++n) {
//     base::TempDir dir = ...;
//     base::Faults faults(dir.path());
//     faults.Arm(base::Fault::kNoSpace, n);
//     ... the operation, which must report the fault or get over it ...
//     if (!faults.fired()) break;  // n - 1 steps.
//     ... what was acknowledged is there, also to whoever opens the files again ...
//   }
//
// One Faults at a time; calls of any thread are counted.

#ifndef KTSTR_BASE_TESTING_FAULTS_H_
#define KTSTR_BASE_TESTING_FAULTS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ktstr::base {

enum class Fault {
  kNoSpace,        // ENOSPC, of calls that can need space
  kIo,             // EIO, of all
  kNoDescriptors,  // EMFILE, of calls that open
  kInterrupted,    // EINTR, of calls that the caller has to make again
  kShort,          // a read or write of one byte or more less than asked for
  // The process ends by SIGKILL before the n-th call that changes something.
  kKill,
  // So does the machine: what no fsync covers is gone. Content of files goes back to the last fsync
  // of the file, names to the last fsync of their directory.
  kPowerCut,
  // The same, when the file system wrote the names, but not the content, to the disk.
  kPowerCutNamesStay,
  // The same, when it wrote names, sizes and what stands in inodes, as small files do: the missing
  // content of the others reads as zeros.
  kPowerCutSizesStay,
  // The same, when it wrote the content, but not the names.
  kPowerCutContentStays,
};
// "ENOSPC", "kill", ...
const char* FaultName(Fault fault);

class Faults {
 public:
  // Below `root`, an absolute path. What is there now counts as synced.
  explicit Faults(std::string root);
  ~Faults();
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  // The n-th (from 1) call from now on that can fail in this way does. `lasting`: all later ones
  // too.
  void Arm(Fault fault, uint64_t n, bool lasting = false);
  void Disarm();
  bool fired() const;
};

// For n = 1, 2, ... until the operation gets to its end: `path(n)` in a child process that ends at
// its n-th call as `fault` says (kKill and below), then `check(n)` in this process. `prepare` makes
// the state before, and returns the directory. Returns how many steps there were.
// The child must not use what the parent's threads use; `path` reports through memory that both
// share (SharedFacts).
uint64_t EndAtEachStep(Fault fault, const std::function<std::string(uint64_t)>& prepare,
                       const std::function<void(uint64_t)>& path,
                       const std::function<void(uint64_t)>& check);

// A T in memory shared with child processes, zeroed. T has no constructor worth its name.
template <typename T>
class SharedFacts;

void* MapShared(uint64_t size);
void UnmapShared(void* at, uint64_t size);

template <typename T>
class SharedFacts {
 public:
  SharedFacts() : facts_(static_cast<T*>(MapShared(sizeof(T)))) {}
  ~SharedFacts() { UnmapShared(facts_, sizeof(T)); }
  SharedFacts(const SharedFacts&) = delete;
  SharedFacts& operator=(const SharedFacts&) = delete;
  T* operator->() { return facts_; }
  T& operator*() { return *facts_; }

 private:
  T* const facts_;
};

}  // namespace ktstr::base

#endif  // KTSTR_BASE_TESTING_FAULTS_H_
