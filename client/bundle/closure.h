// SPDX-License-Identifier: Apache-2.0
//
// A program with everything that the dynamic loader would load for it. Reads ELF files and executes
// nothing (ldd runs the program under test). Search order as in ld.so(8): DT_RPATH of
// the object and of those that needed it (unless it has DT_RUNPATH), LD_LIBRARY_PATH, DT_RUNPATH,
// the loader's cache, the default directories. Misses libraries that a program opens with
// dlopen(3). Any thread.

#ifndef KTSTR_CLIENT_BUNDLE_CLOSURE_H_
#define KTSTR_CLIENT_BUNDLE_CLOSURE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ktstr/v1/run.pb.h"

namespace ktstr::client {

struct LibraryPlaces {
  std::string ld_library_path;               // $LD_LIBRARY_PATH
  std::map<std::string, std::string> cache;  // Name -> path: the loader's cache, x86-64 part.
  std::vector<std::string> default_directories;
};

// Of this machine: the cache from `ldconfig -p`, or empty when ldconfig fails: the default
// directories usually suffice.
LibraryPlaces HostLibraryPlaces();
// The x86-64 entries of `ldconfig -p` output.
std::map<std::string, std::string> ParseLdconfig(absl::string_view text);

// A file to upload.
struct BundleFile {
  v1::FileRef ref;
  std::string path;  // On this machine.
};

// The program first, as bin/NAME; libraries as lib/NAME; files that the program names by an
// absolute path (its interpreter, and libraries whose DT_NEEDED has one) as root/PATH, which the
// guest has at that path. For a loader that is not the system's own, its directory comes before the
// loader's cache. InvalidArgument, with the path and the remedy, for scripts, files of another
// architecture, damaged files and libraries that are not found.
absl::StatusOr<std::vector<BundleFile>> ProgramClosure(const std::string& program,
                                                       const LibraryPlaces& places);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_BUNDLE_CLOSURE_H_
