// SPDX-License-Identifier: Apache-2.0
//
// The daemon as a process of its own that a test can kill: ktstr-test-daemon SOCKET CACHE_DIR
// VM_PROGRAM. Writes "ready" to descriptor 3.
#include <sys/eventfd.h>

#include <cstdio>
#include <string>

#include "base/file.h"
#include "daemon/server.h"

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  ktstr::daemon::ServerOptions options;
  options.socket = argv[1];
  options.cache_dir = argv[2];
  options.vm_program = argv[3];
  options.agent_program = "/proc/self/exe";
  options.config = ktstr::daemon::DefaultConfig(1);
  options.config.set_qemu_path("true");
  auto server = ktstr::daemon::Server::Start(options);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", std::string(server.status().message()).c_str());
    return 70;
  }
  if (!ktstr::base::WriteAll(3, "ready\n", "ready").ok()) return 70;
  (*server)->Serve(eventfd(0, EFD_CLOEXEC));
  return 0;
}
