#include "common/rpc/rpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/config/limits.h"
#include "common/rpc/health_client.h"
#include "common/rpc/listen_check.h"

namespace pregate {
namespace {

// The whole server's name in grpc.health.v1. Without a name, SetServingStatus is for kLiveService
// too.
constexpr char kReadyService[] = "";

// gRPC's switches for health and reflection are process-wide and idempotent; each server still has
// its own health service.
void EnablePlugins() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
}

void Configure(grpc::ServerBuilder& builder, int message_bytes_max) {
  builder.SetMaxReceiveMessageSize(message_bytes_max);
  builder.SetMaxSendMessageSize(message_bytes_max);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kKeepaliveIntervalMs / 2);
}

}  // namespace

struct RpcServer::State {
  std::unique_ptr<grpc::Server> server;
  Address bound;
  std::function<bool()> ready, live;
  std::atomic<bool> draining{false};
  absl::Notification stop;
  std::thread health;
  std::atomic<bool> shut_down{false};

  // Until `stop`: copies readiness and liveness into the health service.
  void PollHealth() {
    // Only changes are told: gRPC sends whoever watches a message for each call.
    bool serving = false;  // as Start left it
    std::optional<bool> alive;
    do {
      const bool now = !draining && ready();
      if (now != serving) server->GetHealthCheckService()->SetServingStatus(kReadyService, now);
      serving = now;
      const bool alive_now = live == nullptr || live();
      if (alive_now != alive) {
        server->GetHealthCheckService()->SetServingStatus(kLiveService, alive_now);
      }
      alive = alive_now;
    } while (!stop.WaitForNotificationWithTimeout(absl::Milliseconds(kHealthPollMs)));
  }
};

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(
    const RpcServerOptions& options, const std::vector<grpc::Service*>& services,
    std::function<bool()> ready) {
  const bool encrypted = options.security != nullptr && options.security->encrypted();
  PREGATE_CHECK(encrypted || StaysOnThisMachine(options.listen), "plaintext on ",
                options.listen.ToString());
  EnablePlugins();
  grpc::ServerBuilder builder;
  Configure(builder, options.message_bytes_max);
  int port = 0;
  builder.AddListeningPort(
      options.listen.ToString(),
      encrypted ? options.security->MakeServerCredentials() : grpc::InsecureServerCredentials(),
      &port);
  for (grpc::Service* service : services) builder.RegisterService(service);
  auto state = std::make_unique<State>();
  {
    ASSIGN_OR_RETURN(const BindTurn turn, BindTurn::Take(options.listen));
    state->server = builder.BuildAndStart();
  }
  if (state->server == nullptr || (port == 0 && !options.listen.is_unix())) {
    return absl::UnavailableError(
        absl::StrCat("address ", options.listen.ToString(), " cannot be bound: in use?"));
  }
  state->bound = options.listen;
  if (!options.listen.is_unix()) state->bound.port = port;
  state->ready = std::move(ready);
  state->live = options.live;
  // gRPC begins with SERVING; whoever asks after Start must not hear that before the first poll.
  state->server->GetHealthCheckService()->SetServingStatus(kReadyService, false);
  state->health = std::thread([s = state.get()] { s->PollHealth(); });
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(state)));
}

RpcServer::RpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
RpcServer::~RpcServer() { Shutdown(absl::ZeroDuration()); }

const Address& RpcServer::bound() const { return state_->bound; }

void RpcServer::MarkDraining() {
  state_->draining = true;
  state_->server->GetHealthCheckService()->SetServingStatus(kReadyService, false);
}

void RpcServer::Shutdown(absl::Duration grace) {
  if (state_->shut_down.exchange(true)) return;
  state_->stop.Notify();
  state_->health.join();
  state_->server->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  state_->server->Wait();
}

}  // namespace pregate
