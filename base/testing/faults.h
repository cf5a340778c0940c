// SPDX-License-Identifier: Apache-2.0
//
// Faults of the file system, for tests of what a program keeps on disk. faults.cc replaces these
// calls of the C library in all code of the test program and of the shared libraries that it uses
// (sqlite, libarchive): open, read, write, fsync, rename, unlink, mkdir and their relatives. It
// counts the calls on paths below one directory; of those that can fail in a given way, the n-th
// fails, or it and all later ones. All other calls go through unchanged, except that fsync never
// waits for the disk.
//
//   for (uint64_t n = 1;; ++n) {
//     base::TempDir dir = ...;
//     base::Faults faults(dir.path());
//     faults.Arm(base::Fault::kNoSpace, n);
//     ... the operation, which must report the fault or succeed in spite of it ...
//     if (!faults.fired()) break;  // n - 1 steps.
//     ... what was acknowledged is there, also when the files are opened again ...
//   }
//
// One Faults at a time; it counts the calls of all threads.

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
  kShort,          // a read or write transfers half of what was asked for
  // The process ends by SIGKILL before the n-th call that changes something.
  kKill,
  // The machine ends there: what no fsync covers is lost. Files have the content of their last
  // fsync, directories the names of theirs.
  kPowerCut,
  // The same, but the file system had written all names to the disk.
  kPowerCutNamesStay,
  // The same, but the file system had written names, sizes and what stands in inodes, as small
  // files do. The lost content of the others reads as zeros.
  kPowerCutSizesStay,
  // The same, but the file system had written all content.
  kPowerCutContentStays,
};
// "ENOSPC", "kill", ...
const char* FaultName(Fault fault);

class Faults {
 public:
  // Counts calls below `root`, an absolute path. What is there now counts as synced.
  explicit Faults(std::string root);
  ~Faults();
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  // From now on, the n-th call (from 1) that can fail in this way fails; with `lasting` all later
  // ones, too.
  void Arm(Fault fault, uint64_t n, bool lasting = false);
  // The n-th to the (n + calls - 1)-th: a disk that is full for a while.
  void ArmFor(Fault fault, uint64_t n, uint64_t calls);
  void Disarm();
  bool fired() const;
};

// For n = 1, 2, ... until `path` runs to its end: calls `prepare(n)`, which makes the initial state
// and returns the directory; `path(n)` in a child process that `fault` (kKill or a power cut) ends
// at its n-th call; then `check(n)` in this process. Returns the number of steps. The child must
// not use what the parent's threads use; `path` reports through shared memory (SharedFacts).
uint64_t EndAtEachStep(Fault fault, const std::function<std::string(uint64_t)>& prepare,
                       const std::function<void(uint64_t)>& path,
                       const std::function<void(uint64_t)>& check);

// A T in memory shared with child processes, all bytes zero; no constructor runs.
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
