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
#include "client/kernel_match.h"
#include "client/kernel_package.h"
#include "client/render.h"
#include "scenario/json.h"

namespace ktstr::client {
namespace {

constexpr size_t kPiece = size_t{1} << 20;

// A file to import and the configuration that goes with it.
struct Import {
  std::string path;
  std::string config;
};

// Pairs each image with its configuration: --config, its own package's, or that of another package
// of the command.
absl::StatusOr<std::vector<Import>> PlanImports(const std::vector<std::string>& files,
                                                const std::string& config_file) {
  std::string shared_config;
  if (!config_file.empty()) {
    KTSTR_ASSIGN_OR_RETURN(shared_config, base::ReadFile(config_file, size_t{4} << 20));
  }
  std::vector<Import> imports;
  for (const std::string& file : files) {
    KTSTR_ASSIGN_OR_RETURN(KernelPackage package, InspectKernelPackage(file));
    const bool config_only = package.is_package && !package.has_image;
    if (config_only && package.config.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file,
                       ": this package holds neither a kernel image nor a kernel "
                       "configuration. Give linux-image-*.deb, or linux-binary-*.deb with "
                       "its linux-base-*.deb"));
    }
    if (config_only && shared_config.empty()) shared_config = package.config;
    if (!config_only) imports.push_back({file, std::move(package.config)});
  }
  if (imports.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.front(),
                     ": holds a kernel configuration, but no image. Name the "
                     "linux-binary-*.deb of the same version as well"));
  }
  for (Import& import : imports) {
    if (import.config.empty()) import.config = shared_config;
  }
  return imports;
}

// What the daemon says of a file, whose name it knows and whose path the user does. A damaged file
// is invalid input, as one of another kind is.
absl::Status OfImport(const absl::Status& status, const std::string& path) {
  if (status.ok()) return status;
  absl::string_view message = status.message();
  absl::ConsumePrefix(&message, absl::StrCat(base::ToAbsl(base::Basename(path)), ": "));
  return absl::Status(absl::IsDataLoss(status) ? absl::StatusCode::kInvalidArgument : status.code(),
                      absl::StrCat(path, ": ", message));
}

absl::StatusOr<v1::ImportKernelResponse> Send(const Session& session, const Import& import,
                                              Terminal* terminal) {
  KTSTR_ASSIGN_OR_RETURN(const base::UniqueFd fd, base::Open(import.path, O_RDONLY));
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return base::ErrnoStatus(errno, import.path);
  if (!S_ISREG(st.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(import.path, ": not a regular file"));
  grpc::ClientContext context;
  v1::ImportKernelResponse response;
  const std::shared_ptr<Connection> connection = session.connection();
  const auto writer = connection->stub()->ImportKernel(&context, &response);
  v1::ImportKernelRequest request;
  request.mutable_header()->set_file_name(std::string(base::Basename(import.path)));
  request.mutable_header()->set_size(static_cast<uint64_t>(st.st_size));
  request.mutable_header()->set_config(import.config);
  bool open = writer->Write(request);
  for (off_t sent = 0; open && sent < st.st_size;) {
    request.Clear();
    request.mutable_data()->resize(kPiece);
    const ssize_t n = pread(fd.get(), request.mutable_data()->data(), kPiece, sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = errno;
      context.TryCancel();
      writer->Finish().ok();  // The reason is known here; the answer would be "cancelled".
      if (n < 0) return base::ErrnoStatus(error, absl::StrCat("read ", import.path));
      return absl::InvalidArgumentError(
          absl::StrCat(import.path, ": became shorter while it was sent. Start again"));
    }
    request.mutable_data()->resize(static_cast<size_t>(n));
    open = writer->Write(request);
    sent += n;
    terminal->Live(
        absl::StrCat("sending ", import.path, ": ", Bytes(sent), " of ", Bytes(st.st_size)));
  }
  if (open) writer->WritesDone();
  terminal->Live(absl::StrCat("importing ", import.path));
  KTSTR_RETURN_IF_ERROR(OfImport(FromGrpc(writer->Finish()), import.path));
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

absl::Status ImportAll(const Session& session, const std::vector<std::string>& files,
                       const std::string& config_file, bool json, Terminal* terminal) {
  KTSTR_ASSIGN_OR_RETURN(const std::vector<Import> imports, PlanImports(files, config_file));
  for (const Import& import : imports) {
    KTSTR_ASSIGN_OR_RETURN(const v1::ImportKernelResponse response,
                           Send(session, import, terminal));
    if (import.config.empty()) {
      terminal->Note(absl::StrCat(
          "warning: ", import.path,
          " comes without a kernel configuration; schedulers that read "
          "/boot/config-VERSION will not load. Name its linux-base-*.deb too, or --config FILE"));
    }
    KTSTR_RETURN_IF_ERROR(PrintEntry(response.entry(), json,
                                     response.already_there() ? "already cached" : "imported",
                                     terminal));
  }
  return absl::OkStatus();
}

absl::Status Fetch(const Session& session, const std::string& source,
                   const std::vector<std::string>& suites, bool json, Terminal* terminal) {
  if (!absl::StartsWith(source, "deb:") || source.size() == 4) {
    return absl::InvalidArgumentError(absl::StrCat("'", source,
                                                   "' is no source of kernels. Write deb:PACKAGE, "
                                                   "as deb:linux-image-6.18.15+deb13-cloud-amd64"));
  }
  grpc::ClientContext context;
  v1::FetchKernelRequest request;
  request.set_source(source);
  for (const std::string& suite : suites) request.add_suites(suite);
  const std::shared_ptr<Connection> connection = session.connection();
  const auto reader = connection->stub()->FetchKernel(&context, request);
  v1::FetchKernelResponse response;
  v1::KernelEntry entry;
  while (reader->Read(&response)) {
    if (response.has_entry()) entry = response.entry();
    if (response.step_case() != v1::FetchKernelResponse::kProgress) continue;
    terminal->live() ? terminal->Live(response.progress()) : terminal->Note(response.progress());
  }
  KTSTR_RETURN_IF_ERROR(base::Annotate(FromGrpc(reader->Finish()), source));
  return PrintEntry(entry, json, "fetched", terminal);
}

absl::StatusOr<v1::KernelEntry> FindKernel(const Session& session, const std::string& id) {
  v1::ListKernelsResponse kernels;
  KTSTR_RETURN_IF_ERROR(
      Call(session, &v1::Ktstr::StubInterface::ListKernels, v1::ListKernelsRequest(), &kernels));
  if (const v1::KernelEntry* found = MatchKernel(kernels, id); found != nullptr) return *found;
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
  KTSTR_RETURN_IF_ERROR(
      Call(session, &v1::Ktstr::StubInterface::ListKernels, v1::ListKernelsRequest(), &all));
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

  CLI::App* add =
      kernel->add_subcommand("import", "Put kernel packages (.deb) or images into the cache");
  add->add_option(
         "FILE", o->files,
         "linux-image-*.deb; linux-binary-*.deb with its linux-base-*.deb; bzImage or vmlinux")
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
