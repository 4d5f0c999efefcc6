#include "gateway_service/edge/http_server.h"

#include <sys/socket.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "common/base/gateway_limits.h"
#include "common/telemetry/process_metrics.h"
#include "gateway_service/edge/http_connection.h"

namespace pregate::gateway {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::milliseconds kAcceptRetry(50);  // after the system refused a descriptor
constexpr absl::Duration kPoll = absl::Milliseconds(5);

}  // namespace

// Members end in reverse order: connections, which live in the contexts' handlers, before what they
// use.
struct HttpServer::State {
  HttpShared shared;
  Address bound;
  int connections_max = 0;
  std::vector<std::unique_ptr<HttpShard>> shards;
  std::vector<asio::executor_work_guard<asio::io_context::executor_type>> guards;
  std::vector<tcp::acceptor> acceptors;  // on the first shard
  size_t next_shard = 0;                 // its thread only
  std::vector<std::thread> threads;

  void Accept(tcp::acceptor& acceptor);
  void AcceptLater(tcp::acceptor& acceptor);
  void Serve(HttpShard* shard, tcp::socket socket);
};

void HttpServer::State::Accept(tcp::acceptor& acceptor) {
  HttpShard* const shard = shards[next_shard++ % shards.size()].get();
  acceptor.async_accept(shard->context,
                        [this, shard, &acceptor](error_code error, tcp::socket socket) {
                          if (error == asio::error::operation_aborted) return;
                          if (error) return AcceptLater(acceptor);
                          Serve(shard, std::move(socket));
                          Accept(acceptor);
                        });
}

void HttpServer::State::Serve(HttpShard* shard, tcp::socket socket) {
  asio::post(shard->context, [this, shard, s = std::move(socket)]() mutable {
    if (shared.num_open >= connections_max) {
      if (shard->idle.empty()) return;  // all of them are being answered
      shard->idle.front()->Cut();
    }
    std::make_shared<HttpConnection>(shard, std::move(s))->Start();
  });
}

// Descriptors are short: silent connections give theirs back.
void HttpServer::State::AcceptLater(tcp::acceptor& acceptor) {
  for (const auto& shard : shards) {
    asio::post(shard->context, [s = shard.get()] {
      if (!s->idle.empty()) s->idle.front()->Cut();
    });
  }
  auto timer = std::make_shared<asio::steady_timer>(shards.front()->context, kAcceptRetry);
  timer->async_wait([this, timer, &acceptor](error_code) {
    if (!shared.draining) Accept(acceptor);
  });
}

std::unique_ptr<HttpServer> HttpServer::Start(ListenSockets sockets, HttpHandler* handler,
                                              int threads) {
  auto state = std::make_unique<State>();
  state->shared.handler = handler;
  state->bound = sockets.bound;
  state->connections_max = ConnectionsThatFit(kHttpConnectionsMax, 1);
  for (int i = 0; i < threads; ++i) {
    state->shards.push_back(std::make_unique<HttpShard>());
    state->shards.back()->shared = &state->shared;
    state->guards.push_back(asio::make_work_guard(state->shards.back()->context));
  }
  for (UniqueFd& fd : sockets.fds) {
    sockaddr_storage bound = {};
    socklen_t size = sizeof(bound);
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size);
    state->acceptors.emplace_back(state->shards.front()->context,
                                  bound.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(),
                                  fd.Release());
  }
  for (tcp::acceptor& acceptor : state->acceptors) state->Accept(acceptor);
  for (const auto& shard : state->shards) {
    state->threads.emplace_back([s = shard.get()] { s->context.run(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() {
  for (const auto& shard : state_->shards) shard->context.stop();
  for (std::thread& thread : state_->threads) thread.join();
}

const Address& HttpServer::bound() const { return state_->bound; }

void HttpServer::Drain() {
  if (state_->shared.draining.exchange(true)) return;
  asio::post(state_->shards.front()->context, [s = state_.get()] {
    error_code ignored;
    for (tcp::acceptor& acceptor : s->acceptors) acceptor.close(ignored);
  });
  for (const auto& shard : state_->shards) {
    asio::post(shard->context, [s = shard.get()] {
      while (!s->idle.empty()) s->idle.front()->Cut();
    });
  }
}

bool HttpServer::AwaitAnswered(absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  while (state_->shared.num_answering > 0) {
    if (absl::Now() >= end) return false;
    absl::SleepFor(kPoll);
  }
  return true;
}

}  // namespace pregate::gateway
