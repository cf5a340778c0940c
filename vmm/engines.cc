// SPDX-License-Identifier: Apache-2.0
//
// The engines of this version: one line each.
#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/string_view.h"
#include "vmm/engine.h"
#include "vmm/qemu/engine.h"
#include "vmm/window_abi.h"

namespace ktstr::vmm {
namespace {

// Raise it when a snapshot's content, or how it is taken, changes while no other fact does.
constexpr int kSnapshotFormat = 4;

struct Registration {
  v1::Engine kind;
  const Engine* engine;
};

const Registration kEngines[] = {
    {v1::TCG, qemu::TcgEngine()},
};

}  // namespace

absl::StatusOr<const Engine*> FindEngine(v1::Engine kind) {
  for (const Registration& registration : kEngines) {
    if (registration.kind == kind) return registration.engine;
  }
  return absl::UnimplementedError(absl::StrCat("the ", EngineLabel(kind),
                                               " engine is not in this version; use --engine tcg "
                                               "(or auto)"));
}

std::string EngineLabel(v1::Engine kind) { return absl::AsciiStrToLower(v1::Engine_Name(kind)); }

absl::StatusOr<std::string> FileIdentity(const EngineFile& file) {
  struct stat info;
  if (fstat(file.fd.get(), &info) != 0) return base::ErrnoStatus(errno, file.path);
  return absl::StrCat(file.path, " ", info.st_dev, ":", info.st_ino, " ", info.st_size, " ",
                      info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec);
}

absl::StatusOr<std::string> SnapshotIdentity(const Engine& engine, const v1::LaunchPlan& plan,
                                             const EngineIdentity& identity,
                                             std::string_view kernel_digest,
                                             std::string_view boot_image_digest) {
  KTSTR_ASSIGN_OR_RETURN(const std::string of_engine, engine.SnapshotIdentity(plan, identity));
  return absl::StrCat("format ", kSnapshotFormat, "\nwindow ", window::kVersion, "\nengine ",
                      identity.version, "\nprogram ", identity.file, "\nkernel ",
                      base::ToAbsl(kernel_digest), "\nboot image ", base::ToAbsl(boot_image_digest),
                      "\nmemory ", absl::StrJoin(plan.node_memory(), " "), "\n", of_engine);
}

}  // namespace ktstr::vmm
