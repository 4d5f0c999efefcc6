// pregate-router: names one expert for every token, before the backbone runs.
#include "common/base/clock.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/rpc/grpc_log.h"
#include "common/rpc/shutdown.h"
#include "common/telemetry/descriptors.h"
#include "common/telemetry/start.h"
#include "common/tls/grpc/security.h"
#include "router_service/edge/router_server.h"

namespace pregate {
namespace {

absl::Status Run(int argc, char** argv) {
  OptionSet options("pregate-router", "Names the expert of every token for a pregate scheduler");
  RouterServerOptions server_options;
  TlsOptions tls_options;
  LogOptions log_options;
  DeclareRouterServerOptions(options, &server_options);
  DeclareTlsOptions(options, &tls_options);
  DeclareLogOptions(options, &log_options);
  ASSIGN_OR_RETURN(const OptionSet::Outcome outcome, options.Parse(argc, argv));
  if (outcome == OptionSet::Outcome::kExit) return absl::OkStatus();

  ShutdownSignal shutdown;
  const Log log("router", log_options);
  LogStart(log, options);
  RaiseDescriptorLimit(log);
  SystemClock clock;
  const GrpcLog grpc_log(&log, &clock);
  ASSIGN_OR_RETURN(const auto security, Security::Load(tls_options, {Role::kRouter}, &log, &clock));
  ASSIGN_OR_RETURN(const auto server,
                   RouterServer::Start(server_options, security.get(), &clock, &log));
  shutdown.BeginServing();
  shutdown.Wait();
  log.Info("draining");
  server->Drain();
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::PrepareProcess();
  return pregate::ExitCode("pregate-router", pregate::Run(argc, argv));
}
