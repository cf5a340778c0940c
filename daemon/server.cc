// SPDX-License-Identifier: Apache-2.0
#include "daemon/server.h"

#include <fcntl.h>
#include <grpc/grpc.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "daemon/caller.h"
#include "daemon/service.h"
#include "scenario/limits.h"

namespace ktstr::daemon {
namespace {

constexpr size_t kMaxConnections = 256;
constexpr int kMaxThreadsPerUser = 300;
constexpr int kMaxStreamsPerConnection = 256;
constexpr int kMaxRequestBytes = scenario::LimitOf("").max;
constexpr absl::Duration kPrefacePatience = absl::Seconds(5);
constexpr absl::Duration kClaimPatience = absl::Seconds(10);
// After an accept that failed: until the next one, and between two lines about it in the log.
constexpr absl::Duration kAcceptPause = absl::Milliseconds(200);
constexpr absl::Duration kAcceptLogPause = absl::Minutes(1);
// Between two looks at a connection with a part of the preface: poll() cannot wait for the rest.
constexpr absl::Duration kPartialPeriod = absl::Milliseconds(50);
// A peer that does not read, or hangs, loses its connection after this long (RFC 9113, 6.7 PING).
constexpr int kKeepaliveMs = 60'000;
// RFC 9113, 3.4: what every HTTP/2 client sends first.
constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr size_t kPrefaceSize = sizeof(kPreface) - 1;

absl::Duration Now() { return base::RealClock()->Monotonic(); }

// Another build has replaced this program: the next client must get that one.
bool ProgramReplaced() {
  char path[4096];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  // What procfs(5) appends when the name no longer leads to the program.
  return size > 0 && std::string_view(path, static_cast<size_t>(size)).ends_with(" (deleted)");
}

// Keeps the gRPC library up as long as the process. Otherwise it shuts down with its last object,
// and waits up to 10 s for a poller that still holds a large request that the daemon refused.
void KeepGrpc() {
  static const bool kept = [] {
    grpc_init();
    return true;
  }();
  (void)kept;
}

}  // namespace

struct Server::UserServer {
  std::unique_ptr<KtstrService> service;
  std::unique_ptr<grpc::Server> server;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  KeepGrpc();
  KTSTR_ASSIGN_OR_RETURN(ListeningSocket socket,
                         ListeningSocket::Claim(options.socket, kClaimPatience));
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Create(options);
  if (absl::IsAlreadyExists(daemon.status())) {
    // This daemon has the socket but not the cache, so it cannot serve.
    absl::Status elsewhere = absl::FailedPreconditionError(daemon.status().message());
    daemon.status().ForEachPayload([&elsewhere](absl::string_view type, const absl::Cord& value) {
      elsewhere.SetPayload(type, value);
    });
    return elsewhere;
  }
  KTSTR_RETURN_IF_ERROR(daemon.status());
  return std::unique_ptr<Server>(new Server(options, std::move(socket), *std::move(daemon)));
}

Server::Server(const ServerOptions& options, ListeningSocket socket, std::unique_ptr<Daemon> daemon)
    : options_(options),
      socket_(std::move(socket)),
      daemon_(std::move(daemon)),
      idle_since_(Now()) {}

Server::~Server() { ShutDown(); }

bool Server::Idle() { return pending_.empty() && open_.empty() && daemon_->Idle(); }

absl::Duration Server::NextWake() const {
  absl::Duration next = absl::Seconds(1);  // A run that ends does not wake this thread.
  for (const Pending& pending : pending_) {
    next = std::min(next, pending.partial ? kPartialPeriod : pending.deadline - Now());
  }
  if (accept_after_ > Now()) next = std::min(next, accept_after_ - Now());
  return std::max(next, absl::ZeroDuration());
}

void Server::Serve(int stop_fd) {
  const uint32_t idle_seconds = options_.config.idle_exit_seconds();
  const absl::Duration idle_exit =
      idle_seconds == 0 ? absl::InfiniteDuration() : absl::Seconds(idle_seconds);
  idle_since_ = Now();
  while (true) {
    const bool accepts = Now() >= accept_after_;
    std::vector<pollfd> waits = {{stop_fd, POLLIN, 0}, {accepts ? socket_.fd() : -1, POLLIN, 0}};
    for (const Pending& pending : pending_) {
      waits.push_back({pending.partial ? -1 : pending.fd.get(), POLLIN, 0});
    }
    for (const Open& open : open_) waits.push_back({open.watch.get(), POLLRDHUP, 0});
    const auto ms = absl::ToInt64Milliseconds(absl::Ceil(NextWake(), absl::Milliseconds(1)));
    if (poll(waits.data(), waits.size(), static_cast<int>(ms)) < 0 && errno != EINTR) {
      KTSTR_LOG(ERROR) << base::ErrnoStatus(errno, "poll");
      break;
    }
    if (waits[0].revents != 0) break;
    std::vector<int> ended;
    for (size_t i = 2; i < waits.size(); ++i) {
      if ((waits[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) ended.push_back(waits[i].fd);
    }
    CloseEnded(ended);
    for (auto it = pending_.begin(); it != pending_.end();) {
      it = Examine(&*it) ? std::next(it) : pending_.erase(it);
    }
    if (waits[1].revents != 0) Accept();
    if (!Idle()) {
      idle_since_ = Now();
    } else if (ProgramReplaced()) {
      KTSTR_LOG(INFO) << "idle, and another build has replaced the program, ending";
      break;
    }
    if (Now() - idle_since_ >= idle_exit) {
      KTSTR_LOG(INFO) << "idle for " << idle_seconds << " s, ending";
      break;
    }
  }
  ShutDown();
}

bool Server::Admit(int fd, uid_t* uid) const {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    KTSTR_LOG(WARNING) << base::ErrnoStatus(errno, "SO_PEERCRED");
    return false;
  }
  *uid = peer.uid;
  if (peer.uid == geteuid() || peer.uid == 0) return true;
  KTSTR_LOG(WARNING) << "refused a connection of uid " << peer.uid << " (pid " << peer.pid
                     << "): this is the private daemon of uid " << geteuid();
  return false;
}

void Server::Accept() {
  while (true) {
    base::UniqueFd fd(accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) PauseAccept(errno);
      return;
    }
    uid_t uid = 0;
    if (!Admit(fd.get(), &uid)) continue;
    if (pending_.size() + open_.size() >= kMaxConnections) {
      KTSTR_LOG(WARNING) << "refused a connection: " << kMaxConnections << " are open";
      continue;
    }
    pending_.push_back({std::move(fd), uid, Now() + kPrefacePatience});
  }
}

void Server::PauseAccept(int error) {
  accept_after_ = Now() + kAcceptPause;
  if (Now() - accept_logged_ < kAcceptLogPause) return;
  accept_logged_ = Now();
  KTSTR_LOG(WARNING) << base::ErrnoStatus(error, "accept") << ": trying again every "
                     << kAcceptPause << "; this line comes at most once in " << kAcceptLogPause;
}

bool Server::Examine(Pending* pending) {
  char begin[kPrefaceSize];
  const ssize_t size = recv(pending->fd.get(), begin, sizeof(begin), MSG_PEEK | MSG_DONTWAIT);
  if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) return false;
  if (size > 0 && std::memcmp(begin, kPreface, size) != 0) {
    KTSTR_LOG(WARNING) << "closed a connection of uid " << pending->uid << ": not HTTP/2";
    return false;
  }
  if (size == static_cast<ssize_t>(kPrefaceSize)) {
    HandOver(pending);
    return false;
  }
  pending->partial = size > 0;
  if (Now() < pending->deadline) return true;
  KTSTR_LOG(WARNING) << "closed a connection of uid " << pending->uid << ": silent for "
                     << kPrefacePatience;
  return false;
}

Server::UserServer* Server::ServerOf(uid_t uid) {
  std::unique_ptr<UserServer>& user = servers_[uid];
  if (user != nullptr) return user.get();
  user = std::make_unique<UserServer>();
  user->service = std::make_unique<KtstrService>(daemon_.get(), CallerOf(uid));
  grpc::ServerBuilder builder;
  builder.RegisterService(user->service.get());
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.SetResourceQuota(
      grpc::ResourceQuota(absl::StrCat("uid-", uid)).SetMaxThreads(kMaxThreadsPerUser));
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  user->server = builder.BuildAndStart();
  KTSTR_CHECK(user->server != nullptr) << "gRPC refused its own options";
  return user.get();
}

void Server::HandOver(Pending* pending) {
  base::UniqueFd watch(fcntl(pending->fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!watch.valid()) {
    KTSTR_LOG(WARNING) << base::ErrnoStatus(errno, "duplicate a connection");
    return;
  }
  const uid_t uid = pending->uid;
  grpc::AddInsecureChannelFromFd(ServerOf(uid)->server.get(), pending->fd.Release());
  open_.push_back({std::move(watch), uid});
  CountChanged(uid);
}

void Server::CloseEnded(const std::vector<int>& ended) {
  for (int fd : ended) {
    auto it = std::find_if(open_.begin(), open_.end(),
                           [fd](const Open& open) { return open.watch.get() == fd; });
    if (it == open_.end()) continue;
    const uid_t uid = it->uid;
    open_.erase(it);
    CountChanged(uid);
  }
}

void Server::CountChanged(uid_t uid) {
  const auto count = std::count_if(open_.begin(), open_.end(),
                                   [uid](const Open& open) { return open.uid == uid; });
  daemon_->runs().SetConnections(uid, static_cast<int>(count));
}

void Server::ShutDown() {
  socket_.Remove();
  pending_.clear();
  daemon_->Stop();
  for (auto& [uid, user] : servers_) {
    user->server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
  }
  servers_.clear();
  open_.clear();
}

}  // namespace ktstr::daemon
