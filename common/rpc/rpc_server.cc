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
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/acceptor.h"
#include "common/rpc/channel.h"
#include "common/rpc/health_client.h"
#include "common/rpc/reset_counter.h"
#include "common/telemetry/process_metrics.h"
#include "common/telemetry/refusal_log.h"
#include "common/tls/access_table.h"

namespace pregate {
namespace {

// The whole server's name in grpc.health.v1. Without a name, SetServingStatus is for kLiveService
// too.
constexpr char kReadyService[] = "";
constexpr int kProbeBytesMax = 4096;

// gRPC's switches for health and reflection are process-wide and idempotent; each server still has
// its own health service.
void EnablePlugins() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
}

void Configure(grpc::ServerBuilder& builder, int message_bytes_max) {
  builder.SetMaxReceiveMessageSize(message_bytes_max);
  builder.SetMaxSendMessageSize(message_bytes_max);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kClientStreamsMax);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kConnectionIdleMsMax);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kKeepaliveIntervalMs / 2);
}

RoleSet RolesOf(const RpcServerOptions& options) {
  return options.service.empty() ? RoleSet::All()
                                 : RolesServedAt(options.service, options.security->role());
}

// Where the server itself reaches its port.
Address Own(Address bound) {
  if (bound.is_wildcard()) bound.host = bound.host == "::" ? "::1" : "127.0.0.1";
  return bound;
}

}  // namespace

struct RpcServer::State final : CallWatch {
  explicit State(const RpcServerOptions& options)
      : security(options.security),
        live(options.live),
        on_unreachable(options.on_unreachable),
        probe_interval(options.probe_interval),
        cuts(options.log, &clock, "connection cut") {}

  const Security* const security;
  const std::function<bool()> live;
  const std::function<void(const absl::Status&)> on_unreachable;
  const absl::Duration probe_interval;
  SystemClock clock;
  RefusalLog cuts;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<Acceptor> acceptor;
  std::function<bool()> ready;
  std::atomic<bool> draining{false};
  absl::Notification stop;
  std::thread health, probe;
  std::atomic<bool> shut_down{false};

  void OnReset(const std::string& peer) override {
    if (acceptor->NoteReset(peer)) TellResets(peer);
  }
  uint64_t OnBegin(const std::string& peer) override {
    const uint64_t connection = acceptor->ConnectionOf(peer);
    if (acceptor->NoteBegin(connection)) {
      cuts.Add(peer, absl::StrCat(kClientStreamsMax + kConnectionResetsMax,
                                  " calls have begun and not ended"));
    }
    return connection;
  }
  void OnEnd(const std::string& peer, uint64_t connection, bool cancelled) override {
    if (acceptor->NoteEnd(connection, cancelled)) TellResets(peer);
  }
  void TellResets(const std::string& peer) {
    cuts.Add(peer, absl::StrCat(kConnectionResetsMax, " calls cancelled beyond ",
                                kConnectionResetsPerSecond, "/s"));
  }

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

  // Until `stop`: gRPC does not say when its port no longer answers.
  void ProbeSelf() {
    const Address own = Own(acceptor->bound());
    int num_failed = 0;
    while (!stop.WaitForNotificationWithTimeout(probe_interval)) {
      const auto channel = security != nullptr && security->encrypted()
                               ? MakeChannel(own, kProbeBytesMax, *security, {security->role()})
                               : MakeChannel(own, kProbeBytesMax);
      const auto answer = IsServing(channel, absl::Milliseconds(kSelfProbeTimeoutMs), kLiveService);
      num_failed = answer.ok() ? 0 : num_failed + 1;
      if (num_failed == kSelfProbesFailedMax) on_unreachable(answer.status());
    }
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
  ASSIGN_OR_RETURN(ListenSockets sockets, Listen(options.listen));
  auto connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      encrypted ? options.security->MakeServerCredentials(RolesOf(options))
                : grpc::InsecureServerCredentials());
  auto state = std::make_unique<State>(options);
  CountResets(builder, state.get(), options.self_told);
  for (grpc::Service* service : services) builder.RegisterService(service);
  state->server = builder.BuildAndStart();
  PREGATE_CHECK(state->server != nullptr, "a gRPC server without a port of its own starts");
  state->ready = std::move(ready);
  // gRPC begins with SERVING; whoever asks after Start must not hear that before the first poll.
  state->server->GetHealthCheckService()->SetServingStatus(kReadyService, false);
  state->acceptor = std::make_unique<Acceptor>(
      std::move(sockets), std::move(connections),
      ConnectionsThatFit(options.connections_max, Acceptor::kDescriptorsEach));
  state->health = std::thread([s = state.get()] { s->PollHealth(); });
  if (state->on_unreachable) state->probe = std::thread([s = state.get()] { s->ProbeSelf(); });
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(state)));
}

RpcServer::RpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
RpcServer::~RpcServer() { Shutdown(absl::ZeroDuration()); }

const Address& RpcServer::bound() const { return state_->acceptor->bound(); }

std::shared_ptr<grpc::Channel> RpcServer::InProcessChannel() {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(kClientMessageBytesMax);
  args.SetMaxSendMessageSize(kClientMessageBytesMax);
  return state_->server->InProcessChannel(args);
}

void RpcServer::HoldWrites(size_t num_messages) { state_->acceptor->HoldWrites(num_messages); }
void RpcServer::ReleaseWrites() { state_->acceptor->ReleaseWrites(); }

void RpcServer::MarkDraining() {
  state_->draining = true;
  state_->server->GetHealthCheckService()->SetServingStatus(kReadyService, false);
}

void RpcServer::Shutdown(absl::Duration grace) {
  if (state_->shut_down.exchange(true)) return;
  state_->stop.Notify();
  state_->health.join();
  if (state_->probe.joinable()) state_->probe.join();
  state_->acceptor->Stop();
  state_->server->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  state_->server->Wait();
}

}  // namespace pregate
