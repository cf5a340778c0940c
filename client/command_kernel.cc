// SPDX-License-Identifier: Apache-2.0
//
// kernel list, import, fetch, path, show.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "client/command.h"
#include "client/kernel_list.h"
#include "client/render.h"
#include "scenario/json.h"
#include "scenario/kernel_choice.h"
#include "scenario/limits.h"

namespace ktstr::client {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
// Between two lines of an import: the daemon unpacks and checks the files, and waits at most 5
// minutes for the runs that use the kernel.
constexpr absl::Duration kImportLimit = absl::Minutes(10);
// Between two lines of a fetch: the download of one package.
constexpr absl::Duration kFetchLimit = absl::Minutes(60);

// A line of the daemon: in place on a terminal, else below the one before.
void ShowProgress(const std::string& line, Terminal* terminal) {
  terminal->live() ? terminal->Live(line) : terminal->Note(line);
}

struct KernelFile {
  std::string path;
  base::UniqueFd fd;
  off_t size = 0;
};

// Opens a file to import, before the client sends any.
absl::StatusOr<KernelFile> OpenKernelFile(const std::string& path) {
  KernelFile file;
  file.path = path;
  KTSTR_ASSIGN_OR_RETURN(file.fd, base::Open(path, O_RDONLY | O_NONBLOCK));
  struct stat st;
  if (fstat(file.fd.get(), &st) != 0) return base::ErrnoStatus(errno, path);
  if (S_ISDIR(st.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": a directory. Name a file: a package, or arch/x86/boot/bzImage of a built tree"));
  }
  if (!S_ISREG(st.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  if (st.st_size == 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a kernel but an empty file"));
  }
  file.size = st.st_size;
  return file;
}

// "a.deb", "a.deb and 2 more"; there is at least one.
std::string Named(const std::vector<KernelFile>& files) {
  const std::string& first = files.front().path;
  return files.size() == 1 ? first : absl::StrCat(first, " and ", files.size() - 1, " more");
}

// The daemon's error about a file, with the path of the file for its name, which is all that the
// daemon knows. A damaged file is invalid input, as a file of another kind is.
absl::Status OfImport(const absl::Status& status, const std::vector<KernelFile>& files) {
  if (status.ok()) return status;
  absl::string_view message = status.message();
  // An error that concerns no single file, as a full disk, names all of them.
  std::string path = absl::StrCat(Named(files), ": ");
  for (const KernelFile& file : files) {
    if (!absl::ConsumePrefix(&message,
                             absl::StrCat(base::ToAbsl(base::Basename(file.path)), ": "))) {
      continue;
    }
    path = absl::StrCat(file.path, ": ");
    break;
  }
  return absl::Status(absl::IsDataLoss(status) ? absl::StatusCode::kInvalidArgument : status.code(),
                      absl::StrCat(path, message));
}

using ImportStream =
    grpc::ClientReaderWriterInterface<v1::ImportKernelRequest, v1::ImportKernelResponse>;

// False: the daemon wants no more; the end of the call has the reason.
absl::StatusOr<bool> SendFile(const KernelFile& file, const std::string& config, GuardedCall* call,
                              ImportStream* stream, Terminal* terminal) {
  v1::ImportKernelRequest request;
  request.mutable_header()->set_file_name(std::string(base::Basename(file.path)));
  request.mutable_header()->set_size(static_cast<uint64_t>(file.size));
  request.mutable_header()->set_config(config);
  bool open = stream->Write(request);
  for (off_t sent = 0; open && sent < file.size;) {
    request.Clear();
    request.mutable_data()->resize(kPiece);
    const ssize_t n = pread(file.fd.get(), request.mutable_data()->data(), kPiece, sent);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoStatus(errno, absl::StrCat("read ", file.path));
    if (n == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path, ": became shorter during the upload. Start again"));
    }
    request.mutable_data()->resize(static_cast<size_t>(n));
    open = stream->Write(request);
    sent += n;
    call->Progress();
    terminal->Live(
        absl::StrCat("sending ", file.path, ": ", Bytes(sent), " of ", Bytes(file.size)));
  }
  return open;
}

absl::StatusOr<v1::ImportKernelResponse> Send(const Session& session,
                                              const std::vector<KernelFile>& files,
                                              const std::string& config, Terminal* terminal) {
  GuardedCall call(session.interrupt_fd(), kImportLimit);
  const std::shared_ptr<Connection> connection = session.connection();
  const auto stream = connection->stub()->ImportKernel(call.context());
  bool open = true;
  for (const KernelFile& file : files) {
    const absl::StatusOr<bool> sent = SendFile(file, config, &call, stream.get(), terminal);
    if (!sent.ok()) {
      call.context()->TryCancel();
      stream->Finish().ok();  // Only "cancelled"; `sent` has the reason.
      return sent.status();
    }
    open = *sent;
    if (!open) break;
  }
  if (open) stream->WritesDone();
  terminal->Live(absl::StrCat("importing ", Named(files)));
  v1::ImportKernelResponse response;
  while (stream->Read(&response)) {
    call.Progress();
    if (!response.progress().empty()) ShowProgress(response.progress(), terminal);
  }
  absl::Status status = call.Finish(stream->Finish());
  if (absl::IsCancelled(status)) return status;
  KTSTR_RETURN_IF_ERROR(OfImport(status, files));
  return response;
}

absl::Status PrintEntry(const v1::KernelEntry& entry, bool json, absl::string_view how,
                        Terminal* terminal) {
  if (json) {
    KTSTR_ASSIGN_OR_RETURN(const std::string text, scenario::ToJson(entry, /*pretty=*/false));
    terminal->Machine(absl::StrCat(text, "\n"));
    return absl::OkStatus();
  }
  terminal->Result(absl::StrCat(entry.metadata().key(), "  ", entry.metadata().version(), "  ",
                                Bytes(entry.size_bytes()), "  ", how, "\n"));
  return absl::OkStatus();
}

// A kernel without its configuration works, except with schedulers that read it.
void NoteMissingConfig(const v1::KernelEntry& entry, absl::string_view remedy, Terminal* terminal) {
  if (entry.has_config()) return;
  const std::string& release = entry.metadata().release();
  terminal->Note(
      absl::StrCat("warning: kernel ", release,
                   " is cached without its configuration: the guest has no /boot/config-", release,
                   ", and schedulers that need it do not load. ", remedy));
}

absl::Status ImportAll(const Session& session, const std::vector<std::string>& paths,
                       const std::string& config_file, bool json, Terminal* terminal) {
  std::string config;
  if (!config_file.empty()) {
    KTSTR_ASSIGN_OR_RETURN(
        config, base::ReadFile(config_file,
                               scenario::LimitOf("ImportKernelRequest.ImportHeader.config").max));
  }
  std::vector<KernelFile> files;
  for (const std::string& path : paths) {
    KTSTR_ASSIGN_OR_RETURN(KernelFile file, OpenKernelFile(path));
    files.push_back(std::move(file));
  }
  KTSTR_ASSIGN_OR_RETURN(const v1::ImportKernelResponse response,
                         Send(session, files, config, terminal));
  for (const v1::ImportKernelResponse::Kernel& kernel : response.kernels()) {
    NoteMissingConfig(kernel.entry(),
                      "Import it again together with its linux-base-*.deb, or with --config FILE.",
                      terminal);
    KTSTR_RETURN_IF_ERROR(PrintEntry(
        kernel.entry(), json, kernel.already_there() ? "already cached" : "imported", terminal));
  }
  return absl::OkStatus();
}

absl::Status Fetch(const Session& session, const std::string& source,
                   const std::vector<std::string>& suites, bool json, Terminal* terminal) {
  GuardedCall call(session.interrupt_fd(), kFetchLimit);
  v1::FetchKernelRequest request;
  request.set_source(source);
  for (const std::string& suite : suites) request.add_suites(suite);
  const std::shared_ptr<Connection> connection = session.connection();
  const auto reader = connection->stub()->FetchKernel(call.context(), request);
  v1::FetchKernelResponse response;
  v1::KernelEntry entry;
  while (reader->Read(&response)) {
    call.Progress();
    if (response.has_entry()) entry = response.entry();
    if (response.step_case() != v1::FetchKernelResponse::kProgress) continue;
    ShowProgress(response.progress(), terminal);
  }
  absl::Status status = call.Finish(reader->Finish());
  if (absl::IsCancelled(status)) return status;
  KTSTR_RETURN_IF_ERROR(base::Annotate(status, source));
  NoteMissingConfig(entry,
                    "The source has no package with it. Where you have the file, import the image "
                    "with --config FILE.",
                    terminal);
  return PrintEntry(entry, json, "fetched", terminal);
}

absl::StatusOr<v1::KernelEntry> FindKernel(const Session& session, const std::string& id) {
  v1::ListKernelsResponse kernels;
  KTSTR_RETURN_IF_ERROR(CallPages(session, &v1::Ktstr::StubInterface::ListKernels,
                                  &v1::ListKernelsResponse::kernels_size, &kernels));
  std::vector<scenario::CachedKernel> cached;
  for (const v1::KernelEntry& entry : kernels.kernels()) {
    cached.push_back(scenario::CachedKernelOf(entry));
  }
  const absl::StatusOr<scenario::KernelChoice> choice =
      scenario::ChooseKernel(cached, id, /*needs_sched_ext=*/false);
  if (choice.ok()) return kernels.kernels(static_cast<int>(choice->index));
  if (!absl::IsNotFound(choice.status())) return choice.status();
  return absl::InvalidArgumentError(
      absl::StrCat("no kernel '", id, "' in the cache ", session.connection()->daemon().cache_dir(),
                   ". See `ktstrctl kernel list` for keys and versions"));
}

absl::Status Show(const Session& session, const std::string& id, bool json, Terminal* terminal) {
  KTSTR_ASSIGN_OR_RETURN(const v1::KernelEntry entry, FindKernel(session, id));
  KTSTR_ASSIGN_OR_RETURN(const std::string text, scenario::ToJson(entry, /*pretty=*/!json));
  terminal->Machine(absl::StrCat(text, absl::EndsWith(text, "\n") ? "" : "\n"));
  return absl::OkStatus();
}

absl::Status Path(const Session& session, const std::string& id, Terminal* terminal) {
  KTSTR_ASSIGN_OR_RETURN(const v1::KernelEntry entry, FindKernel(session, id));
  terminal->Machine(absl::StrCat(session.connection()->daemon().cache_dir(), "/kernels/",
                                 entry.metadata().key(), "\n"));
  return absl::OkStatus();
}

}  // namespace

absl::Status PrintKernels(const Session& session, const GlobalOptions& global,
                          const std::string& filter, Terminal* terminal) {
  v1::ListKernelsResponse all, shown;
  KTSTR_RETURN_IF_ERROR(CallPages(session, &v1::Ktstr::StubInterface::ListKernels,
                                  &v1::ListKernelsResponse::kernels_size, &all));
  for (const v1::KernelEntry& entry : all.kernels()) {
    if (absl::StrContains(entry.metadata().key(), filter)) *shown.add_kernels() = entry;
  }
  const std::string& cache_dir = session.connection()->daemon().cache_dir();
  if (global.json) {
    KTSTR_ASSIGN_OR_RETURN(const std::string text, scenario::ToJson(shown, /*pretty=*/false));
    terminal->Machine(absl::StrCat(text, "\n"));
  } else if (shown.kernels().empty()) {
    terminal->Note(absl::StrCat("no kernel in the cache ", cache_dir,
                                ". Add one with `ktstrctl kernel fetch deb:PACKAGE` or "
                                "`ktstrctl kernel import FILE`"));
  } else {
    terminal->Result(KernelsTable(shown, absl::Now()));
  }
  if (const std::string footer = CorruptFooter(shown, cache_dir); !footer.empty()) {
    terminal->Error(footer.substr(0, footer.size() - 1));
  }
  return absl::OkStatus();
}

void AddKernelCommands(CLI::App* app, Action* action) {
  struct Options {
    std::vector<std::string> files, suites;
    std::string config, source, id, filter;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* kernel = app->add_subcommand("kernel", "The kernels that runs can boot");
  kernel->require_subcommand(1);
  kernel->footer("Example:\n  ktstrctl kernel list");

  CLI::App* list = kernel->add_subcommand("list", "Kernels of the cache, newest first");
  list->add_option("--filter", o->filter, "Only keys that contain this")->type_name("SUB");
  list->footer("Example:\n  ktstrctl kernel list");
  list->callback([=] {
    *action =
        WithSession([o](const Session& session, const GlobalOptions& global, Terminal* terminal) {
          return PrintKernels(session, global, o->filter, terminal);
        });
  });

  CLI::App* add = kernel->add_subcommand("import", "Put kernel packages or images into the cache");
  add->add_option("FILE", o->files,
                  "Packages (.deb, .rpm, .pkg.tar.*), bzImage or vmlinux; linux-binary-*.deb "
                  "together with its "
                  "linux-base-*.deb")
      ->required();
  add->add_option("--config", o->config,
                  "The kernel's configuration, where the files do not hold it")
      ->type_name("FILE");
  add->footer("Example:\n  ktstrctl kernel import linux-binary-7.3.4*.deb linux-base-7.3.4*.deb");
  add->callback([=] {
    *action =
        WithSession([o](const Session& session, const GlobalOptions& global, Terminal* terminal) {
          return ImportAll(session, o->files, o->config, global.json, terminal);
        });
  });

  CLI::App* fetch =
      kernel->add_subcommand("fetch", "Fetch a kernel package of the distribution into the cache");
  fetch->add_option("SOURCE", o->source, "deb:PACKAGE")->required();
  fetch
      ->add_option("--suite", o->suites,
                   "Suite to look in besides the host's, as trixie-backports; repeatable")
      ->type_name("SUITE")
      ->allow_extra_args(false);
  fetch->footer(
      "Example:\n  ktstrctl kernel fetch deb:linux-image-6.18.15+deb13-cloud-amd64 --suite "
      "trixie-backports");
  fetch->callback([=] {
    *action =
        WithSession([o](const Session& session, const GlobalOptions& global, Terminal* terminal) {
          return Fetch(session, o->source, o->suites, global.json, terminal);
        });
  });

  CLI::App* path = kernel->add_subcommand("path", "The directory of a cached kernel");
  path->add_option("ID", o->id, "Key, release, version or prefix (7.3), as of `run --kernel`")
      ->required();
  path->footer("Example:\n  ktstrctl kernel path 7.3");
  path->callback([=] {
    *action = WithSession([o](const Session& session, const GlobalOptions&, Terminal* terminal) {
      return Path(session, o->id, terminal);
    });
  });

  CLI::App* show = kernel->add_subcommand("show", "Everything that the cache knows of a kernel");
  show->add_option("ID", o->id, "Key, release, version or prefix (7.3), as of `run --kernel`")
      ->required();
  show->footer("Example:\n  ktstrctl kernel show 7.3");
  show->callback([=] {
    *action =
        WithSession([o](const Session& session, const GlobalOptions& global, Terminal* terminal) {
          return Show(session, o->id, global.json, terminal);
        });
  });
}

}  // namespace ktstr::client
