// SPDX-License-Identifier: Apache-2.0
#include "client/bundle/closure.h"

#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>
#include <memory>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/subprocess.h"
#include "scenario/limits.h"

namespace ktstr::client {
namespace {

constexpr absl::string_view kLoader = "ld-linux-x86-64.so.2";
constexpr uint64_t kMaxFileBytes = scenario::LimitOf("PutBlobRequest.size").max;
constexpr size_t kMaxFiles = 256;
// Below the daemon's limits, with room for the bundle's prefix.
constexpr size_t kMaxAbsolutePath = 900;
constexpr size_t kMaxComponents = 31;
constexpr absl::string_view kSystemLoader = "/lib64/ld-linux-x86-64.so.2";

// The parts of an object that the loader reads.
struct Object {
  std::string path;
  bool dynamic = false;
  std::string interpreter;
  std::vector<std::string> needed;
  std::vector<std::string> rpath;
  std::vector<std::string> runpath;
};

absl::Status Bad(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

std::string ElfError() {
  const char* message = elf_errmsg(-1);
  return message == nullptr ? "damaged ELF file" : absl::StrCat("damaged ELF file: ", message);
}

absl::Status CheckHeader(const std::string& path, absl::string_view head, const GElf_Ehdr& header) {
  if (head[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64) {
    return Bad(path,
               absl::StrFormat(
                   "is for another architecture (ELF class %d, machine %d); the guest is x86-64. "
                   "Build it for x86_64-linux-gnu",
                   head[EI_CLASS] == ELFCLASS64 ? 64 : 32, header.e_machine));
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return Bad(path,
               "is an ELF file, but no program or shared library (an object file or a core dump?)");
  }
  return absl::OkStatus();
}

// The directories of a DT_RPATH or DT_RUNPATH with $ORIGIN and $LIB resolved.
std::vector<std::string> Directories(absl::string_view list, const std::string& object_path) {
  const std::string origin(base::Dirname(object_path));
  std::vector<std::string> out;
  for (absl::string_view part : absl::StrSplit(list, ':', absl::SkipEmpty())) {
    out.push_back(absl::StrReplaceAll(part, {{"$ORIGIN", origin},
                                             {"${ORIGIN}", origin},
                                             {"$LIB", "lib/x86_64-linux-gnu"},
                                             {"${LIB}", "lib/x86_64-linux-gnu"}}));
  }
  return out;
}

// The string at virtual address `strings` + `offset`, found through the program headers: a stripped
// file may have no sections.
absl::StatusOr<std::string> StringAt(absl::string_view file, const std::vector<GElf_Phdr>& segments,
                                     uint64_t strings, uint64_t offset, const std::string& path) {
  const uint64_t address = strings + offset;
  for (const GElf_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr ||
        address - segment.p_vaddr >= segment.p_filesz)
      continue;
    const uint64_t at = segment.p_offset + (address - segment.p_vaddr);
    if (at >= file.size()) break;
    const size_t end = file.find('\0', at);
    if (end == absl::string_view::npos) break;
    return std::string(file.substr(at, end - at));
  }
  return Bad(path, "damaged ELF file: a name of the dynamic section lies outside the file");
}

absl::Status ReadDynamic(absl::string_view file, const std::vector<GElf_Phdr>& segments,
                         const GElf_Phdr& dynamic, Object* object) {
  if (dynamic.p_offset > file.size() || dynamic.p_filesz > file.size() - dynamic.p_offset) {
    return Bad(object->path, "damaged ELF file: the dynamic section lies outside the file");
  }
  object->dynamic = true;
  std::vector<Elf64_Dyn> entries(dynamic.p_filesz / sizeof(Elf64_Dyn));
  memcpy(entries.data(), file.data() + dynamic.p_offset, entries.size() * sizeof(Elf64_Dyn));
  uint64_t strings = 0;
  for (const Elf64_Dyn& entry : entries) {
    if (entry.d_tag == DT_STRTAB) strings = entry.d_un.d_ptr;
  }
  for (const Elf64_Dyn& entry : entries) {
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag != DT_NEEDED && entry.d_tag != DT_RPATH && entry.d_tag != DT_RUNPATH) continue;
    KTSTR_ASSIGN_OR_RETURN(const std::string text,
                           StringAt(file, segments, strings, entry.d_un.d_val, object->path));
    if (entry.d_tag == DT_NEEDED) object->needed.push_back(text);
    if (entry.d_tag == DT_RPATH) object->rpath = Directories(text, object->path);
    if (entry.d_tag == DT_RUNPATH) object->runpath = Directories(text, object->path);
  }
  return absl::OkStatus();
}

absl::StatusOr<Object> ParseObject(const std::string& path, std::string file) {
  if (file.empty()) return Bad(path, "is empty");
  if (absl::StartsWith(file, "#!")) {
    return Bad(path,
               absl::StrCat(
                   "is a script (", file.substr(0, std::min<size_t>(file.find('\n'), 80)),
                   "), and the guest has no interpreter for it. Name the scheduler's own program"));
  }
  if (!absl::StartsWith(file, ELFMAG) || file.size() < EI_NIDENT)
    return Bad(path, "is not an ELF program");
  elf_version(EV_CURRENT);
  const std::unique_ptr<Elf, int (*)(Elf*)> elf(elf_memory(file.data(), file.size()), elf_end);
  GElf_Ehdr header;
  size_t count = 0;
  if (elf == nullptr || gelf_getehdr(elf.get(), &header) == nullptr) return Bad(path, ElfError());
  KTSTR_RETURN_IF_ERROR(CheckHeader(path, file, header));
  if (elf_getphdrnum(elf.get(), &count) != 0 || count == 0)
    return Bad(path, "damaged ELF file: no program headers");
  std::vector<GElf_Phdr> segments(count);
  for (size_t i = 0; i < count; ++i) {
    if (gelf_getphdr(elf.get(), static_cast<int>(i), &segments[i]) == nullptr)
      return Bad(path, ElfError());
  }
  Object object;
  object.path = path;
  for (const GElf_Phdr& segment : segments) {
    if (segment.p_type == PT_DYNAMIC)
      KTSTR_RETURN_IF_ERROR(ReadDynamic(file, segments, segment, &object));
    if (segment.p_type != PT_INTERP) continue;
    if (segment.p_offset > file.size() || segment.p_filesz > file.size() - segment.p_offset) {
      return Bad(path, "damaged ELF file: the interpreter's name lies outside the file");
    }
    object.interpreter = std::string(file.substr(segment.p_offset, segment.p_filesz).c_str());
  }
  return object;
}

absl::StatusOr<Object> ReadObject(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode))
    return Bad(path, "is not a regular file");
  absl::StatusOr<std::string> file = base::ReadFile(path, kMaxFileBytes);
  if (!file.ok()) return absl::InvalidArgumentError(file.status().message());
  return ParseObject(path, *std::move(file));
}

// The bundle's path of a file that programs name by an absolute path. Refuses directories that the
// guest needs itself.
absl::StatusOr<std::string> AbsoluteInGuest(const std::string& path, const std::string& needed_by) {
  bool plain = absl::StartsWith(path, "/") && path.size() <= kMaxAbsolutePath;
  const std::vector<std::string> parts = absl::StrSplit(absl::string_view(path).substr(1), '/');
  plain &= parts.size() <= kMaxComponents;
  for (const std::string& part : parts) plain &= !part.empty() && part != "." && part != "..";
  if (!plain) {
    return Bad(needed_by,
               absl::StrCat("names ", path,
                            ", which is no plain absolute path; the guest cannot have it "
                            "there. Link it by an absolute path without '..'"));
  }
  for (absl::string_view taken : {"/proc/", "/sys/", "/dev/", "/run/ktstr/"}) {
    if (absl::StartsWith(path, taken))
      return Bad(needed_by, absl::StrCat("names ", path, ", but the guest has its own ", taken));
  }
  return absl::StrCat("root", path);
}

// True when the loader would take the file: it skips files of another architecture.
bool Loadable(const std::string& path) {
  const absl::StatusOr<base::UniqueFd> fd = base::Open(path, O_RDONLY | O_NONBLOCK);
  if (!fd.ok()) return false;
  Elf64_Ehdr header;
  if (pread(fd->get(), &header, sizeof(header), 0) != sizeof(header)) return false;
  return memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64 &&
         header.e_machine == EM_X86_64;
}

// Walks the objects breadth first, as the loader does: the first library of a name serves all
// objects that need it.
class Walk {
 public:
  explicit Walk(const LibraryPlaces& places) : places_(places) {}

  absl::StatusOr<std::vector<BundleFile>> Run(const std::string& program) {
    KTSTR_ASSIGN_OR_RETURN(Object object, ReadObject(program));
    KTSTR_RETURN_IF_ERROR(Add(program, absl::StrCat("bin/", base::ToAbsl(base::Basename(program))),
                              /*executable=*/true));
    if (!object.interpreter.empty()) {
      if (base::ToAbsl(base::Basename(object.interpreter)) != kLoader) {
        return Bad(program,
                   absl::StrCat("is linked for the loader ", object.interpreter,
                                "; the guest offers glibc's. Link it statically, or for glibc"));
      }
      if (!Loadable(object.interpreter))
        return Bad(program, absl::StrCat("needs ", object.interpreter, ", which is not there"));
      KTSTR_ASSIGN_OR_RETURN(const std::string in_guest,
                             AbsoluteInGuest(object.interpreter, program));
      KTSTR_RETURN_IF_ERROR(Add(object.interpreter, in_guest, /*executable=*/true));
      seen_.insert(std::string(kLoader));
      if (object.interpreter != kSystemLoader)
        loader_directory_ = std::string(base::Dirname(object.interpreter));
    }
    std::deque<Object> queue = {std::move(object)};
    const std::vector<std::string> program_rpath =
        queue.front().runpath.empty() ? queue.front().rpath : std::vector<std::string>();
    while (!queue.empty()) {
      const Object next = std::move(queue.front());
      queue.pop_front();
      for (const std::string& name : next.needed) {
        if (!seen_.insert(name).second) continue;
        KTSTR_ASSIGN_OR_RETURN(const std::string path, Find(name, next, program_rpath));
        std::string in_guest = absl::StrCat("lib/", name);
        if (absl::StrContains(name, '/')) {
          KTSTR_ASSIGN_OR_RETURN(in_guest, AbsoluteInGuest(name, next.path));
        }
        KTSTR_RETURN_IF_ERROR(Add(path, in_guest, /*executable=*/true));
        KTSTR_ASSIGN_OR_RETURN(Object library, ReadObject(path));
        // DT_RPATH of an object also counts for the libraries of its libraries (ld.so(8)).
        if (next.runpath.empty())
          library.rpath.insert(library.rpath.end(), next.rpath.begin(), next.rpath.end());
        queue.push_back(std::move(library));
      }
    }
    return std::move(files_);
  }

 private:
  absl::StatusOr<std::string> Find(const std::string& name, const Object& needed_by,
                                   const std::vector<std::string>& program_rpath) {
    if (absl::StrContains(name, '/')) {
      if (Loadable(name)) return name;
      return Missing(name, needed_by, {name});
    }
    std::vector<std::string> directories;
    const auto add = [&directories](const std::vector<std::string>& more) {
      directories.insert(directories.end(), more.begin(), more.end());
    };
    if (needed_by.runpath.empty()) {
      add(needed_by.rpath);
      add(program_rpath);
    }
    add(absl::StrSplit(places_.ld_library_path, absl::ByAnyChar(":;"), absl::SkipEmpty()));
    add(needed_by.runpath);
    if (!loader_directory_.empty()) directories.push_back(loader_directory_);
    for (const std::string& directory : directories) {
      const std::string path = base::JoinPath(directory, name);
      if (Loadable(path)) return path;
    }
    if (const auto cached = places_.cache.find(name);
        cached != places_.cache.end() && Loadable(cached->second)) {
      return cached->second;
    }
    for (const std::string& directory : places_.default_directories) {
      const std::string path = base::JoinPath(directory, name);
      if (Loadable(path)) return path;
    }
    add(places_.default_directories);
    return Missing(name, needed_by, directories);
  }

  static absl::Status Missing(const std::string& name, const Object& needed_by,
                              const std::vector<std::string>& searched) {
    return absl::InvalidArgumentError(
        absl::StrCat("shared library ", name, ", needed by ", needed_by.path,
                     ", not found (searched the loader's cache, ", absl::StrJoin(searched, ", "),
                     "). Install it, set LD_LIBRARY_PATH, or link the scheduler statically"));
  }

  absl::Status Add(const std::string& path, const std::string& guest_path, bool executable) {
    if (files_.size() >= kMaxFiles) {
      return Bad(path, absl::StrCat("is file number ", kMaxFiles + 1, " of the bundle; ", kMaxFiles,
                                    " are allowed"));
    }
    KTSTR_ASSIGN_OR_RETURN(const base::UniqueFd fd, base::Open(path, O_RDONLY));
    struct stat st;
    if (fstat(fd.get(), &st) != 0) return base::ErrnoStatus(errno, path);
    BundleFile file;
    file.path = path;
    file.ref.set_guest_path(guest_path);
    file.ref.set_size(static_cast<uint64_t>(st.st_size));
    file.ref.set_executable(executable);
    KTSTR_ASSIGN_OR_RETURN(*file.ref.mutable_sha256(), base::Sha256HexOfFd(fd.get(), path));
    files_.push_back(std::move(file));
    return absl::OkStatus();
  }

  const LibraryPlaces& places_;
  std::string loader_directory_;  // Of a loader that is not the system's own.
  std::set<std::string> seen_;
  std::vector<BundleFile> files_;
};

}  // namespace

std::map<std::string, std::string> ParseLdconfig(absl::string_view text) {
  // "\tlibz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1"
  std::map<std::string, std::string> out;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, " => ");
    if (halves.size() != 2 || !absl::StrContains(halves[0], "x86-64")) continue;
    absl::string_view name = halves[0].substr(0, halves[0].find(" ("));
    while (absl::ConsumePrefix(&name, "\t") || absl::ConsumePrefix(&name, " ")) {
    }
    out.emplace(name, halves[1]);  // The loader takes the first one.
  }
  return out;
}

LibraryPlaces HostLibraryPlaces() {
  LibraryPlaces places;
  if (const char* path = getenv("LD_LIBRARY_PATH"); path != nullptr) places.ld_library_path = path;
  places.default_directories = {"/lib/x86_64-linux-gnu",
                                "/usr/lib/x86_64-linux-gnu",
                                "/lib64",
                                "/usr/lib64",
                                "/lib",
                                "/usr/lib"};
  // A user's PATH often lacks sbin.
  for (const char* program : {"/sbin/ldconfig", "/usr/sbin/ldconfig"}) {
    base::SpawnOptions options;
    options.argv = {program, "-p"};
    const absl::StatusOr<base::RunResult> result =
        base::RunCommand(std::move(options), absl::Seconds(10));
    if (!result.ok() || !result->status.Success()) continue;
    places.cache = ParseLdconfig(result->out);
    break;
  }
  return places;
}

absl::StatusOr<std::vector<BundleFile>> ProgramClosure(const std::string& program,
                                                       const LibraryPlaces& places) {
  return Walk(places).Run(program);
}

}  // namespace ktstr::client
