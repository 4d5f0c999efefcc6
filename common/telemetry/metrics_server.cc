#include "common/telemetry/metrics_server.h"

#include <httplib.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/limits.h"
#include "common/telemetry/https.h"
#include "common/telemetry/timed_http_server.h"

namespace pregate {
namespace {

// httplib's own pool queues without bound; this one makes the acceptor wait, so that the kernel's
// backlog is the limit. A job must run once enqueued: it owns its socket. The acceptor's wait ends,
// as every job ends in time.
class BoundedPool final : public httplib::TaskQueue {
 public:
  BoundedPool() {
    for (int i = 0; i < kMetricsThreads; ++i) threads_.emplace_back([this] { Work(); });
  }

  void enqueue(std::function<void()> job) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return jobs_.size() < size_t{kMetricsQueueConnections}; });
    jobs_.push_back(std::move(job));
    changed_.notify_all();
  }

  void shutdown() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void Work() {
    while (true) {
      std::function<void()> job;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !jobs_.empty() || stopping_; });
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
        changed_.notify_all();
      }
      job();
    }
  }

  std::mutex mutex_;                 // guards jobs_ and stopping_
  std::condition_variable changed_;  // either of them
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// Without httplib's default SO_REUSEPORT, under which two processes would share one port.
void SetSocketOptions(socket_t socket) {
  const int yes = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

// Asked before any path is looked up, so that who may not know a path does not learn of it.
void AdmitByRole(httplib::Server& server, const TlsGate* gate) {
  server.set_pre_routing_handler(
      [gate](const httplib::Request& request, httplib::Response& response) {
        const absl::Status status = CheckHttpAccess(*gate, request);
        if (status.ok()) return httplib::Server::HandlerResponse::Unhandled;
        response.status = 403;
        response.set_content(absl::StrCat(status.message(), "\n"), "text/plain");
        return httplib::Server::HandlerResponse::Handled;
      });
}

}  // namespace

struct MetricsServer::State {
  std::unique_ptr<TimedHttpServer> server;
  Address bound;
  std::thread acceptor;
};

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const Address& address,
                                                                    const MetricsRegistry* registry,
                                                                    std::function<bool()> ready,
                                                                    const TlsGate* gate) {
  if (address.is_unix()) {
    return absl::InvalidArgumentError(
        absl::StrCat("metrics address ", address.ToString(), ": HTTP is served on TCP only"));
  }
  PREGATE_CHECK(gate != nullptr || address.is_loopback(), "plain HTTP on ", address.ToString());
  auto state = std::make_unique<State>();
  state->bound = address;
  if (gate != nullptr) {
    ASSIGN_OR_RETURN(state->server, MakeHttpsServer(gate));
    AdmitByRole(*state->server, gate);
  } else {
    state->server = std::make_unique<TimedHttpServer>();
  }
  TimedHttpServer& server = *state->server;
  server.new_task_queue = [] { return new BoundedPool; };
  server.set_socket_options(SetSocketOptions);
  server.set_payload_max_length(kMetricsRequestBytesMax);
  server.Get("/metrics", [registry](const httplib::Request&, httplib::Response& response) {
    response.set_content(registry->Serialize(), "text/plain; version=0.0.4; charset=utf-8");
  });
  server.Get("/healthz",
             [ready = std::move(ready)](const httplib::Request&, httplib::Response& response) {
               const bool is_ready = ready();
               response.status = is_ready ? 200 : 503;
               response.set_content(is_ready ? "ready\n" : "not ready\n", "text/plain");
             });
  if (address.port == 0) {
    state->bound.port = server.bind_to_any_port(address.host);
  } else if (!server.bind_to_port(address.host, address.port)) {
    state->bound.port = -1;
  }
  if (state->bound.port < 0) {
    return absl::UnavailableError(
        absl::StrCat("metrics address ", address.ToString(), " cannot be bound: in use?"));
  }
  state->acceptor = std::thread([&server] { server.listen_after_bind(); });
  // stop() is lost on a server that does not run yet; the socket is bound, so this takes no time.
  while (!server.is_running()) std::this_thread::yield();
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(state)));
}

MetricsServer::MetricsServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

MetricsServer::~MetricsServer() {
  state_->server->Stop();
  state_->acceptor.join();
}

const Address& MetricsServer::bound() const { return state_->bound; }

}  // namespace pregate
