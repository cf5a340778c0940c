// SPDX-License-Identifier: Apache-2.0
//
// KernelCache::Import and its parts.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/file_size.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "base/utf8.h"
#include "base/wait_scope.h"
#include "cache/byte_source.h"
#include "cache/kernel_cache.h"
#include "cache/kernel_entry.h"
#include "cache/kernel_image.h"
#include "cache/kernel_package.h"

namespace ktstr::cache {
namespace {

// Runs lock their entry until they end.
constexpr absl::Duration kWriteLockTimeout = absl::Minutes(5);
constexpr absl::Duration kTemporaryLockTimeout = absl::Seconds(60);
constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr size_t kKeyDigits = 16;
constexpr size_t kMaxSourceDetail = 256;  // What a package says of itself can be of any length.
constexpr char kArch[] = "x86_64";
constexpr char kHowToImport[] =
    "Kernels come from a package (.deb: linux-image-* or linux-binary-*; .rpm: kernel-core or "
    "kernel-default; .pkg.tar.*: linux), a bzImage or a vmlinux ELF file.";

// A directory under .tmp. It is locked while an import fills it, so that no other process removes
// it as abandoned.
struct Temporary {
  std::string path;
  base::UniqueFd lock;
  ~Temporary() {
    if (path.empty()) return;
    if (absl::Status status = base::RemoveAll(path); !status.ok()) {
      KTSTR_LOG(WARNING) << status.message();
    }
  }
};

absl::Status MakeTemporary(const std::string& parent, const std::string& lock_path,
                           Temporary* temporary) {
  // Keeps RemoveAbandoned out between mkdtemp and flock.
  KTSTR_ASSIGN_OR_RETURN(
      base::FileLock guard,
      base::FileLock::Acquire(lock_path, base::LockMode::kExclusive, kTemporaryLockTimeout,
                              "temporary kernel entries"));
  std::string path = base::JoinPath(parent, "entry.XXXXXX");
  if (mkdtemp(path.data()) == nullptr)
    return base::ErrnoStatus(errno, absl::StrCat("mkdir ", path));
  temporary->path = path;
  if (chmod(path.c_str(), 0755) != 0) return base::ErrnoStatus(errno, absl::StrCat("chmod ", path));
  KTSTR_ASSIGN_OR_RETURN(temporary->lock, base::Open(path, O_RDONLY | O_DIRECTORY));
  if (flock(temporary->lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::ErrnoStatus(errno, absl::StrCat("flock ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadStart(int fd, const std::string& name) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return base::ErrnoStatus(errno, name);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a regular file"));
  }
  std::string start(4096, '\0');
  KTSTR_ASSIGN_OR_RETURN(const size_t got, base::ReadAt(fd, start.data(), start.size(), 0, name));
  start.resize(got);
  if (lseek(fd, 0, SEEK_SET) != 0) return base::ErrnoStatus(errno, absl::StrCat("seek ", name));
  return start;
}

// A file that is too large is invalid input: unlike a full disk, that never changes.
template <typename T>
absl::StatusOr<T> AsInput(absl::StatusOr<T> read) {
  if (!absl::IsResourceExhausted(read.status())) return read;
  return absl::InvalidArgumentError(read.status().message());
}

// `fd` is a regular file at offset 0.
absl::StatusOr<std::string> ReadImageFile(int fd, const std::string& name) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return base::ErrnoStatus(errno, name);
  if (static_cast<uint64_t>(info.st_size) > kMaxVmlinuxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", info.st_size, " bytes are too large for a kernel image; at most ",
                     kMaxVmlinuxBytes));
  }
  return AsInput(base::ReadFd(fd, name, kMaxVmlinuxBytes));
}

absl::Status CheckConfig(const std::string& config, absl::string_view name) {
  if (config.empty()) return absl::OkStatus();
  if (config.size() > kMaxConfigBytes || config.find('\0') != std::string::npos ||
      !absl::StrContains(config, "CONFIG_")) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": the configuration is not a kernel .config (text with CONFIG_ lines, at most ",
        kMaxConfigBytes >> 20, " MiB)"));
  }
  return absl::OkStatus();
}

const v1::KernelFile* FindFile(const v1::KernelMetadata& metadata, std::string_view name) {
  for (const v1::KernelFile& file : metadata.files()) {
    if (file.name() == name) return &file;
  }
  return nullptr;
}

bool IsPackage(FileKind kind) {
  return kind == FileKind::kDeb || kind == FileKind::kRpm || kind == FileKind::kPacked;
}

// A file from its offset on. Reports how far it is read, and ends with Cancelled when nobody wants
// the import any more.
class ReportingSource : public ByteSource {
 public:
  ReportingSource(const KernelCache::File& file, const KernelCache::Progress& progress)
      : source_(file.fd, file.name),
        name_(file.name),
        size_(base::SizeOf(file.fd, file.name).value_or(0)),
        progress_(progress) {}
  absl::StatusOr<std::string_view> Next() override {
    if (base::WaitScope::Cancelled()) {
      return absl::CancelledError(absl::StrCat(name_, ": cancelled while it was unpacked"));
    }
    if (progress_ && read_ >= due_) {
      progress_(absl::StrCat("unpacking ", name_, ": ", read_ >> 20, " of ",
                             (size_ + kMiB - 1) >> 20, " MiB"));
      due_ = read_ + kReportBytes;
    }
    absl::StatusOr<std::string_view> piece = source_.Next();
    if (piece.ok()) read_ += piece->size();
    return piece;
  }

 private:
  static constexpr uint64_t kReportBytes = 16 * kMiB;
  FdSource source_;
  const std::string name_;
  const uint64_t size_;
  const KernelCache::Progress& progress_;
  uint64_t read_ = 0;
  uint64_t due_ = 0;
};

// Reads `file` from offset 0.
absl::StatusOr<KernelPackage> ReadPackage(const KernelCache::File& file,
                                          const KernelCache::Progress& progress) {
  if (lseek(file.fd, 0, SEEK_SET) != 0) {
    return base::ErrnoStatus(errno, absl::StrCat("seek ", file.name));
  }
  ReportingSource source(file, progress);
  return AsInput(ReadKernelPackage(&source, file.name));
}

}  // namespace

// What an import knows besides the file at hand.
struct KernelCache::Source {
  std::map<std::string, std::string> configs;  // By release, from packages without an image.
  std::string config_text;                     // For kernels of all other releases.
  uid_t owner;
  Progress progress;  // May be empty.

  void Report(const std::string& line) const {
    if (progress) progress(line);
  }

  std::string ConfigFor(const std::string& release) const {
    const auto found = configs.find(release);
    return found == configs.end() ? config_text : found->second;
  }
};

absl::StatusOr<std::vector<KernelCache::Imported>> KernelCache::Import(
    const std::vector<File>& files, const std::string& config_text, uid_t owner,
    const Progress& progress) {
  Source source{{}, config_text, owner, progress};
  std::vector<const File*> with_image;
  std::vector<const File*> config_only;
  for (const File& file : files) {
    KTSTR_RETURN_IF_ERROR(CheckConfig(config_text, file.name));
    KTSTR_ASSIGN_OR_RETURN(const std::string start, ReadStart(file.fd, file.name));
    bool has_image = true;
    if (files.size() > 1 && IsPackage(FileKindOf(start))) {
      KTSTR_ASSIGN_OR_RETURN(KernelPackage package, ReadPackage(file, progress));
      has_image = !package.image_path.empty() || package.config.empty();
      if (!has_image) source.configs[package.config_release] = std::move(package.config);
    }
    (has_image ? with_image : config_only).push_back(&file);
  }
  std::vector<Imported> imported;
  for (const File* file : with_image) {
    KTSTR_ASSIGN_OR_RETURN(Imported one, ImportOne(*file, source));
    imported.push_back(std::move(one));
  }
  for (const File* file : config_only) {
    KTSTR_ASSIGN_OR_RETURN(const KernelPackage package, ReadPackage(*file, progress));
    const bool taken = std::any_of(imported.begin(), imported.end(), [&](const Imported& one) {
      return one.entry.metadata().release() == package.config_release;
    });
    if (taken) continue;
    KTSTR_ASSIGN_OR_RETURN(Imported one, AddConfigOfPackage(package, file->name));
    imported.push_back(std::move(one));
  }
  return imported;
}

absl::StatusOr<KernelCache::Imported> KernelCache::ImportOne(const File& file,
                                                             const Source& source) {
  KTSTR_ASSIGN_OR_RETURN(const std::string start, ReadStart(file.fd, file.name));
  const FileKind kind = FileKindOf(start);
  if (kind == FileKind::kOther) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name, ": not a kernel but ", DescribeOther(start), ". ", kHowToImport));
  }
  if (IsPackage(kind)) {
    KTSTR_ASSIGN_OR_RETURN(const KernelPackage package, ReadPackage(file, source.progress));
    return ImportPackage(package, file.name, source);
  }
  source.Report(absl::StrCat("unpacking ", file.name));
  KTSTR_ASSIGN_OR_RETURN(const std::string data, ReadImageFile(file.fd, file.name));
  absl::StatusOr<KernelImage> image = AsInput(DecodeKernel(data));
  if (!image.ok()) return base::Annotate(image.status(), file.name);
  v1::KernelMetadata metadata;
  metadata.set_source("image");
  metadata.set_source_detail(base::SanitizeUtf8(base::Basename(file.name)));
  metadata.set_owner_uid(source.owner);
  return ImportImage(*image, kind == FileKind::kBzImage ? data : std::string_view(),
                     source.ConfigFor(image->release), std::move(metadata), source);
}

absl::StatusOr<KernelCache::Imported> KernelCache::ImportPackage(const KernelPackage& package,
                                                                 const std::string& file_name,
                                                                 const Source& source) {
  const std::string name = base::SanitizeUtf8(package.package);
  if (!package.ForX86()) {
    return absl::InvalidArgumentError(absl::StrCat(file_name, ": package ", name, " is for ",
                                                   base::SanitizeUtf8(package.architecture),
                                                   "; only amd64 (x86_64) kernels can be used"));
  }
  if (package.image_path.empty()) {
    if (!package.config.empty()) return AddConfigOfPackage(package, file_name);
    return absl::InvalidArgumentError(absl::StrCat(
        file_name, ": package ", name,
        " holds no kernel image (boot/vmlinuz-* or usr/lib/modules/*/vmlinuz). ", kHowToImport));
  }
  absl::StatusOr<KernelImage> image = AsInput(DecodeKernel(package.image));
  if (!image.ok()) {
    return base::Annotate(image.status(), absl::StrCat(file_name, ": ", package.image_path));
  }
  v1::KernelMetadata metadata;
  metadata.set_source(package.format);
  metadata.set_source_detail(
      base::OneLine(absl::StrCat(package.package, " ", package.version), kMaxSourceDetail));
  metadata.set_owner_uid(source.owner);
  const std::string config =
      package.config.empty() ? source.ConfigFor(image->release) : package.config;
  KTSTR_RETURN_IF_ERROR(CheckConfig(config, file_name));
  const bool compressed = FileKindOf(package.image) == FileKind::kBzImage;
  return ImportImage(*image, compressed ? package.image : std::string_view(), config,
                     std::move(metadata), source);
}

absl::StatusOr<KernelCache::Imported> KernelCache::AddConfigOfPackage(
    const KernelPackage& package, const std::string& file_name) {
  KTSTR_RETURN_IF_ERROR(CheckConfig(package.config, file_name));
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> keys, Keys());
  std::vector<std::string> of_release;
  for (const KernelIndex::Row& row : SyncedRows(keys)) {
    if (row.release == package.config_release) of_release.push_back(row.key);
  }
  if (of_release.size() == 1) return AddConfig(of_release[0], package.config);
  const std::string release = base::SanitizeUtf8(package.config_release);
  const std::string what =
      absl::StrCat(file_name, ": package ", base::SanitizeUtf8(package.package),
                   " holds the configuration of ", release);
  if (of_release.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, " but no kernel image. Import the package with the image too (linux-binary-", release,
        ")."));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(what, ", and ", of_release.size(), " cached kernels are of that release (",
                   absl::StrJoin(of_release, ", "),
                   "). Import it together with the package that has its image."));
}

absl::StatusOr<KernelCache::Imported> KernelCache::AddConfig(const std::string& key,
                                                             const std::string& config) {
  const std::string dir = EntryDir(key);
  const auto other = [&](const EntryCheck& check) -> absl::Status {
    const v1::KernelFile* has = FindFile(check.entry.metadata(), kConfigFile);
    if (has == nullptr || has->sha256() == base::Sha256Hex(config)) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("kernel ", key, " is cached with another configuration (", dir, "/",
                     kConfigFile, "). Remove the directory ", dir, " to import it anew."));
  };
  // An entry that has a configuration needs no write lock, for which runs may have to end.
  EntryCheck check = CheckEntry(dir, key);
  if (check.ok() && FindFile(check.entry.metadata(), kConfigFile) != nullptr) {
    KTSTR_RETURN_IF_ERROR(other(check));
    return Imported{check.entry, true};
  }
  absl::StatusOr<base::FileLock> lock = base::FileLock::Acquire(
      LockPath(key), base::LockMode::kExclusive, kWriteLockTimeout, absl::StrCat("kernel ", key));
  if (!lock.ok()) return Explain(lock.status());
  check = CheckEntry(dir, key);
  if (!check.ok()) return absl::FailedPreconditionError(check.entry.error());
  KTSTR_RETURN_IF_ERROR(other(check));
  v1::KernelMetadata metadata = check.entry.metadata();
  if (FindFile(metadata, kConfigFile) != nullptr) return Imported{check.entry, true};
  // Writes the file first: it belongs to the entry only once metadata.json lists it.
  if (absl::Status status = base::WriteFileAtomic(base::JoinPath(dir, kConfigFile), config);
      !status.ok()) {
    return Explain(status);
  }
  *metadata.add_files() = DescribeFile({kConfigFile, config});
  if (absl::Status status = WriteMetadata(dir, metadata); !status.ok()) return Explain(status);
  check = CheckEntry(dir, key);
  if (!check.ok()) return absl::InternalError(check.entry.error());
  Record(check, /*content_checked=*/false);
  return Imported{check.entry, false};
}

absl::StatusOr<std::string> KernelCache::KeyOfContent(const std::string& key,
                                                      const std::string& sha256) const {
  KTSTR_ASSIGN_OR_RETURN(std::vector<std::string> keys, Keys());
  for (const std::string& candidate : keys) {
    const EntryCheck check = CheckEntry(EntryDir(candidate), candidate);
    if (!check.ok()) continue;
    const v1::KernelFile* vmlinux = FindFile(check.entry.metadata(), kVmlinuxFile);
    if (vmlinux->sha256() == sha256) return candidate;
    if (candidate == key) {
      return absl::FailedPreconditionError(absl::StrCat("kernel ", key,
                                                        " is cached with another vmlinux: SHA-256 ",
                                                        vmlinux->sha256(), ", not ", sha256));
    }
  }
  return "";
}

absl::StatusOr<KernelCache::Imported> KernelCache::ImportImage(const KernelImage& image,
                                                               std::string_view bzimage,
                                                               const std::string& config,
                                                               v1::KernelMetadata metadata,
                                                               const Source& source) {
  const std::string digest = base::Sha256Hex(image.vmlinux);
  const std::string key =
      MakeKernelKey(absl::StrCat(image.release, "-", kArch, "-", digest.substr(0, kKeyDigits)));
  const std::string dir = EntryDir(key);
  const auto found = [&](const std::string& other) -> absl::StatusOr<Imported> {
    if (!config.empty()) return AddConfig(other, config);
    return Imported{CheckEntry(EntryDir(other), other).entry, true};
  };
  KTSTR_ASSIGN_OR_RETURN(std::string same, KeyOfContent(key, digest));
  if (!same.empty()) return found(same);
  absl::StatusOr<base::FileLock> lock = base::FileLock::Acquire(
      LockPath(key), base::LockMode::kExclusive, kWriteLockTimeout, absl::StrCat("kernel ", key));
  if (!lock.ok()) return Explain(lock.status());
  KTSTR_ASSIGN_OR_RETURN(same, KeyOfContent(key, digest));
  if (!same.empty()) {
    lock = absl::CancelledError();  // Unlocks: AddConfig takes the lock itself.
    return found(same);
  }
  metadata.set_key(key);
  metadata.set_schema_version(kMetadataSchema);
  metadata.set_version(image.version);
  metadata.set_release(image.release);
  metadata.set_arch(kArch);
  metadata.set_created_unix_s(absl::ToUnixSeconds(absl::Now()));
  metadata.set_sched_ext(image.sched_ext);
  metadata.set_build_id(image.build_id);
  std::vector<EntryFile> files;
  if (!bzimage.empty()) files.push_back({"bzImage", bzimage});
  files.push_back({kVmlinuxFile, image.vmlinux});
  if (!image.btf.empty()) files.push_back({"vmlinux.btf", image.btf});
  if (!config.empty()) files.push_back({kConfigFile, config});

  uint64_t bytes = 0;
  for (const EntryFile& file : files) bytes += file.data.size();
  source.Report(absl::StrCat("writing ", key, " (", (bytes + kMiB - 1) >> 20, " MiB)"));
  Temporary temporary;
  absl::Status status = MakeTemporary(temporary_dir_, TemporaryLockPath(), &temporary);
  if (status.ok()) status = WriteEntry(temporary.path, files, &metadata);
  if (status.ok()) status = Place(temporary.path, key);
  if (!status.ok()) return Explain(status);
  EntryCheck check = CheckEntry(dir, key);
  if (!check.ok()) return absl::InternalError(check.entry.error());
  Record(check, /*content_checked=*/true);
  return Imported{check.entry, false};
}

// Needs the exclusive lock of `key`. An entry at that key is corrupt: it moves to .tmp, where
// RemoveAbandoned finds it if this process ends.
absl::Status KernelCache::Place(const std::string& temporary, const std::string& key) const {
  std::string dir = EntryDir(key);
  std::string old = absl::StrCat(temporary, ".old");
  if (rename(dir.c_str(), old.c_str()) != 0 && errno != ENOENT) {
    return base::ErrnoStatus(errno, absl::StrCat("rename ", dir));
  }
  if (rename(temporary.c_str(), dir.c_str()) != 0) {
    return base::ErrnoStatus(errno, absl::StrCat("rename ", temporary, " to ", dir));
  }
  KTSTR_RETURN_IF_ERROR(base::RemoveAll(old));
  return base::FsyncDir(kernels_dir_);
}

}  // namespace ktstr::cache
