// SPDX-License-Identifier: Apache-2.0
//
// A program with everything that the dynamic loader would load for it, found by reading ELF files:
// nothing is executed (ldd runs the program under test). Search order as in ld.so(8): DT_RPATH of
// the object and of those that needed it (unless it has DT_RUNPATH), LD_LIBRARY_PATH, DT_RUNPATH,
// the loader's cache, the default directories. Libraries that a program opens with dlopen(3) are
// not seen. Any thread.

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

// Of this machine: the cache by `ldconfig -p` (empty when it cannot be run: then the default
// directories do).
LibraryPlaces HostLibraryPlaces();
// The x86-64 entries of `ldconfig -p` output.
std::map<std::string, std::string> ParseLdconfig(absl::string_view text);

// A file to upload.
struct BundleFile {
  v1::FileRef ref;
  std::string path;  // On this machine.
};

// The program first, as bin/NAME; libraries as lib/NAME; what is named by an absolute path (the
// program interpreter, and libraries of a DT_NEEDED with one) as root/PATH: the guest has it at
// that path. A loader that is not the system's own brings its libraries from its own directory
// before the system's. InvalidArgument, with the path and what to do, for scripts, files of another
// architecture, damaged files and libraries that are not found.
absl::StatusOr<std::vector<BundleFile>> ProgramClosure(const std::string& program,
                                                       const LibraryPlaces& places);

}  // namespace ktstr::client

#endif  // KTSTR_CLIENT_BUNDLE_CLOSURE_H_
