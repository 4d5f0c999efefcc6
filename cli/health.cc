// `pregate health`: whether a scheduler, router or worker serves, asked over a new connection.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/remote_server.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/rpc/health_client.h"

namespace pregate::cli {
namespace {

struct HealthOptions {
  std::string server;
  TlsOptions tls;
  absl::Duration timeout = absl::Seconds(2);
  bool live = false, as_json = false;
};

void DeclareHealth(OptionSet& set, HealthOptions* o) {
  set.String("server", &o->server, "HOST:PORT or unix:PATH of a scheduler, router or worker")
      .Required();
  DeclareTlsOptions(set, &o->tls);
  set.Duration("timeout-s", &o->timeout, absl::Milliseconds(1), absl::Hours(1),
               "for the answer, the connection included")
      .Environment("PREGATE_HEALTH_TIMEOUT_S");  // 0 means no limit to others, and nothing here
  set.Switch("live", &o->live,
             "ask instead whether it lives: it answers and its loop turns, ready or not");
  set.Switch("json", &o->as_json, "print one JSON object");
}

int ReportHealth(const HealthOptions& o, const absl::StatusOr<bool>& serving) {
  const char* const yes = o.live ? "live" : "serving";
  const char* const no = o.live ? "not live" : "not serving";
  const char* const word = !serving.ok() ? "unknown" : *serving ? yes : no;
  const std::string why(serving.status().message());
  if (o.as_json) {
    PrintJson({{"server", o.server}, {"status", word}, {"error", why}});
  } else if (serving.ok()) {
    std::puts(word);
  } else {
    Fail("health", absl::UnavailableError(absl::StrCat("--server ", o.server, ": ", why)));
  }
  return serving.ok() && *serving ? kExitOk : kExitFailed;
}

}  // namespace

int Health(int argc, const char* const* argv) {
  HealthOptions options;
  OptionSet set("pregate health", "Says whether a service is ready (grpc.health.v1).");
  DeclareHealth(set, &options);
  PARSE_OPTIONS_OR_RETURN(set, "health", argc, argv);
  // A probe runs beside its service and shows the service's own certificate.
  const auto remote = RemoteServer::Open(options.server, options.tls, RoleSet::All(),
                                         {Role::kScheduler, Role::kRouter, Role::kWorker});
  if (!remote.ok()) return FailUsage("health", remote.status());
  auto serving = IsServing((*remote)->channel(), options.timeout, options.live ? kLiveService : "");
  if (!serving.ok()) serving = (*remote)->Explain(serving.status());
  return ReportHealth(options, serving);
}

}  // namespace pregate::cli
