#include "gateway_service/edge/gateway_server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "gateway_service/edge/gateway.h"
#include "gateway_service/edge/http_server.h"

namespace pregate::gateway {
namespace {

constexpr int kHttpThreadsMax = 64;
constexpr absl::Duration kLastWritesGrace = absl::Seconds(1);  // answers still on their way

}  // namespace

void DeclareGatewayOptions(OptionSet& set, GatewayOptions* options) {
  set.Group("HTTP");
  set.String("http-listen", &options->http_listen,
             "Address of the HTTP API (OpenAI's under /v1), host:port; off: there is none");
  set.String("api-tokens-file", &options->api_tokens_file,
             "Who may use the HTTP API: JSON with hashes of bearer tokens, read again when it "
             "changes (pregate api-token); without it everybody");
  set.Switch("http-plaintext", &options->http_plaintext,
             "Let --http-listen leave this machine: the network there is private, or a proxy in "
             "front ends TLS");
  set.Switch("http-open", &options->http_open,
             "Let --http-listen leave this machine without --api-tokens-file");
  set.Choice("page", &options->page, {"on", "off"},
             "Serve a page for people at / of the HTTP port, and what it shows of the cluster");
  set.Int("http-threads", &options->http_threads, 1, kHttpThreadsMax, "threads",
          "Threads for all HTTP connections together");
  set.Group();
}

absl::StatusOr<Address> CheckGatewayOptions(const GatewayOptions& options) {
  ASSIGN_OR_RETURN(Address address,
                   ParseAddressOption("http-listen", options.http_listen, /*encrypted=*/true));
  const auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("--http-listen: ", options.http_listen, why));
  };
  if (address.is_unix()) return refuse(": HTTP is served on TCP only");
  if (!options.api_tokens_file.empty()) {
    RETURN_IF_ERROR(ReadApiTokensFile(options.api_tokens_file).status());
  }
  if (StaysOnThisMachine(address)) return address;
  if (!options.http_plaintext) {
    return refuse(
        " is not on this machine, which plaintext does not leave: use 127.0.0.1 or [::1], or give "
        "--http-plaintext where the network is private or a proxy in front ends TLS");
  }
  if (options.api_tokens_file.empty() && !options.http_open) {
    return refuse(
        " is not on this machine, and everybody could use it: give --api-tokens-file, or "
        "--http-open where that is meant");
  }
  return address;
}

// Members end in reverse order: the HTTP server, whose connections' handlers use the rest, first.
struct GatewayServer::State {
  State(std::vector<SchedulerPool::Target> schedulers, const Log* log, MetricsRegistry* registry)
      : metrics(registry),
        access_log(log),
        pool(
            std::move(schedulers), [this](const auto& s) { metrics.NoteSchedulers(s); }, log) {}

  std::unique_ptr<TokenFile> tokens;  // null: nobody needs one
  GatewayMetrics metrics;
  AccessLog access_log;
  SchedulerPool pool;
  std::unique_ptr<Gateway> gateway;
  std::unique_ptr<HttpServer> http;
};

absl::StatusOr<std::unique_ptr<GatewayServer>> GatewayServer::Start(
    const GatewayOptions& options, ListenSockets sockets,
    std::vector<SchedulerPool::Target> schedulers, MetricsRegistry* registry,
    const ServiceContext& context) {
  auto state = std::make_unique<State>(std::move(schedulers), context.log, registry);
  if (!options.api_tokens_file.empty()) {
    ASSIGN_OR_RETURN(state->tokens, TokenFile::Load(options.api_tokens_file, context.log));
  }
  state->gateway = std::make_unique<Gateway>(&state->pool, state->tokens.get(), &state->metrics,
                                             &state->access_log, options.page == "on");
  state->http = HttpServer::Start(std::move(sockets), state->gateway.get(), options.http_threads);
  context.log->Info("serving HTTP",
                    {{"url", absl::StrCat("http://", state->http->bound().ToString(), "/v1")},
                     {"page", options.page},
                     {"api_tokens", state->tokens != nullptr}});
  return std::unique_ptr<GatewayServer>(new GatewayServer(std::move(state)));
}

GatewayServer::GatewayServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
GatewayServer::~GatewayServer() { Drain(); }

const Address& GatewayServer::bound() const { return state_->http->bound(); }
bool GatewayServer::ready() const { return state_->gateway->ready(); }

void GatewayServer::MarkDraining() {
  state_->gateway->MarkDraining();
  state_->http->Drain();
}

void GatewayServer::DrainWithin(absl::Duration timeout) {
  MarkDraining();
  if (state_->http->AwaitAnswered(timeout)) return;
  state_->pool.CancelAll();
  state_->http->AwaitAnswered(kLastWritesGrace);
}

}  // namespace pregate::gateway
