#include "common/rpc/acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/reset_counter.h"

namespace pregate {
namespace {

using grpc::experimental::ExternalConnectionAcceptor;

constexpr int kAcceptsATurn = 64;
constexpr size_t kDiscardBytes = 1 << 20;    // at once
constexpr int kPauseMs = 20;                 // after the system refused a descriptor
constexpr uint64_t kFirstConnection = 1024;  // ids below are listening sockets' and kWake
constexpr uint64_t kWake = kFirstConnection - 1;
constexpr size_t kHeldWritesMin = 8;  // messages a connection: what holding costs is two calls each

// As gRPC names a peer. IPv4 in IPv6 is IPv4 there too.
std::string PeerName(int fd) {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(storage);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return "";
  std::array<char, INET6_ADDRSTRLEN> text = {};
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
  if (storage.ss_family == AF_INET) {
    inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return absl::StrCat("ipv4:", text.data(), ":", ntohs(v4.sin_port));
  }
  if (storage.ss_family != AF_INET6) return "";  // a Unix socket's client has no name
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text.data(), text.size());
    return absl::StrCat("ipv4:", text.data(), ":", ntohs(v6.sin6_port));
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  return absl::StrCat("ipv6:%5B", text.data(), "%5D:", ntohs(v6.sin6_port));
}

// Of descriptors or memory, which others use too: connections then give theirs back.
bool IsShortOf(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

struct Acceptor::State {
  struct Connection {
    UniqueFd fd;  // a duplicate: gRPC owns the other and may close it at any time
    std::string peer;
    absl::Time accepted_at;
    ResetAllowance calls;
    bool cut = false;

    // gRPC then closes its own descriptor. What the peer sent and gRPC has not read is thrown away:
    // it would still be read, and be paid for.
    void Cut() {
      cut = true;
      shutdown(fd.get(), SHUT_RDWR);
      while (recv(fd.get(), nullptr, kDiscardBytes, MSG_TRUNC | MSG_DONTWAIT) > 0) {
      }
    }

    // Since the peer last sent something; zero where the system does not say.
    uint32_t SilentMs() const {
      tcp_info info = {};
      socklen_t size = sizeof(info);
      if (getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
      return info.tcpi_last_data_recv;
    }
  };

  State(ListenSockets listening, std::unique_ptr<ExternalConnectionAcceptor> external, int max)
      : sockets(std::move(listening)),
        bound(sockets.bound),
        grpc(std::move(external)),
        connections_max(max),
        epoll(epoll_create1(EPOLL_CLOEXEC)),
        wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    PREGATE_CHECK(epoll.ok() && wake.ok(), "no descriptors for an acceptor");
    Watch(wake.get(), kWake, EPOLLIN);
    for (size_t i = 0; i < sockets.fds.size(); ++i) Watch(sockets.fds[i].get(), i, EPOLLIN);
  }

  void Run();
  void Watch(int fd, uint64_t id, uint32_t events);
  int NumOpen();
  void AcceptAll(int listener);
  void Take(UniqueFd fd);
  void Pause(bool make_room);
  void Cork(int on) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void Forget(uint64_t id);

  ListenSockets sockets;
  const Address bound;
  const std::unique_ptr<ExternalConnectionAcceptor> grpc;
  const int connections_max;
  const UniqueFd epoll, wake;
  absl::Mutex mutex;
  bool held ABSL_GUARDED_BY(mutex) = false;
  uint64_t next_id ABSL_GUARDED_BY(mutex) = kFirstConnection;
  absl::btree_map<uint64_t, Connection> open ABSL_GUARDED_BY(mutex);  // the oldest first
  absl::flat_hash_map<std::string, uint64_t> by_peer ABSL_GUARDED_BY(mutex);
  std::thread thread;  // last: uses everything above
};

void Acceptor::State::Watch(int fd, uint64_t id, uint32_t events) {
  epoll_event event = {.events = events, .data = {.u64 = id}};
  PREGATE_CHECK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0, "epoll refuses a socket");
}

void Acceptor::State::Run() {
  std::array<epoll_event, 64> events;
  while (true) {
    const int found = epoll_wait(epoll.get(), events.data(), events.size(), -1);
    for (int i = 0; i < found; ++i) {
      const uint64_t id = events[i].data.u64;
      if (id == kWake) return;
      if (id >= kFirstConnection) {
        Forget(id);
      } else {
        AcceptAll(sockets.fds[id].get());
      }
    }
  }
}

int Acceptor::State::NumOpen() {
  absl::MutexLock lock(&mutex);
  return static_cast<int>(open.size());
}

void Acceptor::State::AcceptAll(int listener) {
  // Those that were cut end in a moment; until then the backlog is the kernel's.
  if (NumOpen() >= connections_max + connections_max / 8) return Pause(/*make_room=*/true);
  for (int i = 0; i < kAcceptsATurn; ++i) {  // ends are looked at between
    UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.ok()) {
      Take(std::move(fd));
    } else if (errno != EINTR && errno != ECONNABORTED) {
      if (errno != EAGAIN) Pause(IsShortOf(errno));
      return;
    }
  }
}

void Acceptor::State::Take(UniqueFd fd) {
  const int yes = 1, timeout_ms = kKeepaliveTimeoutMs;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  setsockopt(fd.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
  {
    absl::MutexLock lock(&mutex);
    if (open.size() >= static_cast<size_t>(connections_max)) MakeRoom();
  }
  Connection connection{.fd = UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)),
                        .peer = PeerName(fd.get()),
                        .accepted_at = absl::Now()};
  if (!connection.fd.ok()) return;
  const int own = connection.fd.get();
  uint64_t id = 0;
  {
    absl::MutexLock lock(&mutex);
    id = next_id++;
    by_peer[connection.peer] = id;
    open.emplace(id, std::move(connection));
  }
  Watch(own, id, EPOLLET);  // for its end alone, which is always told
  ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.listener_fd = sockets.fds.front().get();
  parameters.fd = fd.Release();
  grpc->HandleNewConnection(&parameters);
}

void Acceptor::State::Pause(bool make_room) {
  if (make_room) {
    absl::MutexLock lock(&mutex);
    MakeRoom();
  }
  pollfd stop = {.fd = wake.get(), .events = POLLIN, .revents = 0};
  poll(&stop, 1, kPauseMs);
}

void Acceptor::State::Cork(int on) {
  for (const auto& [id, connection] : open) {
    setsockopt(connection.fd.get(), IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
  }
  held = on != 0;
}

// Several at once, so that a flood does not look at all of them for each one that comes.
void Acceptor::State::MakeRoom() {
  const absl::Time young = absl::Now() - absl::Milliseconds(kHandshakeTimeoutMs);
  std::vector<std::pair<std::pair<bool, uint32_t>, uint64_t>> ranked;
  for (const auto& [id, connection] : open) {
    // gRPC ends those that are older and have not shaken hands.
    if (connection.cut) continue;
    ranked.push_back({{connection.accepted_at > young, connection.SilentMs()}, id});
  }
  const size_t room = std::min(ranked.size(), ranked.size() / 64 + 1);
  std::partial_sort(ranked.begin(), ranked.begin() + room, ranked.end(), std::greater<>());
  for (size_t i = 0; i < room; ++i) open.at(ranked[i].second).Cut();
}

void Acceptor::State::Forget(uint64_t id) {
  absl::MutexLock lock(&mutex);
  const auto it = open.find(id);
  if (it == open.end()) return;
  const auto named = by_peer.find(it->second.peer);
  if (named != by_peer.end() && named->second == id) by_peer.erase(named);
  epoll_ctl(epoll.get(), EPOLL_CTL_DEL, it->second.fd.get(), nullptr);
  open.erase(it);
}

Acceptor::Acceptor(ListenSockets sockets, std::unique_ptr<ExternalConnectionAcceptor> grpc,
                   int connections_max)
    : state_(std::make_unique<State>(std::move(sockets), std::move(grpc), connections_max)) {
  state_->thread = std::thread([s = state_.get()] { s->Run(); });
}

Acceptor::~Acceptor() { Stop(); }

const Address& Acceptor::bound() const { return state_->bound; }

void Acceptor::Stop() {
  if (!state_->thread.joinable()) return;
  PREGATE_CHECK(eventfd_write(state_->wake.get(), 1) == 0);
  state_->thread.join();
  { const ListenSockets closed = std::move(state_->sockets); }
}

void Acceptor::HoldWrites(size_t num_messages) {
  absl::MutexLock lock(&state_->mutex);
  if (state_->open.size() * kHeldWritesMin <= num_messages) state_->Cork(1);
}

void Acceptor::ReleaseWrites() {
  absl::MutexLock lock(&state_->mutex);
  if (state_->held) state_->Cork(0);
}

bool Acceptor::NoteReset(const std::string& peer) {
  return NoteCall(ConnectionOf(peer),
                  [](ResetAllowance& calls) { return calls.Allow(absl::Now()); });
}

uint64_t Acceptor::ConnectionOf(const std::string& peer) const {
  absl::MutexLock lock(&state_->mutex);
  const auto named = state_->by_peer.find(peer);
  return named == state_->by_peer.end() ? 0 : named->second;
}

bool Acceptor::NoteBegin(uint64_t connection) {
  return NoteCall(connection, [](ResetAllowance& calls) { return calls.Begin(); });
}

bool Acceptor::NoteEnd(uint64_t connection, bool cancelled) {
  return NoteCall(connection,
                  [cancelled](ResetAllowance& calls) { return calls.End(cancelled, absl::Now()); });
}

bool Acceptor::NoteCall(uint64_t connection, absl::FunctionRef<bool(ResetAllowance&)> allows) {
  absl::MutexLock lock(&state_->mutex);
  const auto found = state_->open.find(connection);
  if (found == state_->open.end() || found->second.cut || allows(found->second.calls)) return false;
  found->second.Cut();
  return true;
}

}  // namespace pregate
