// pregate-worker: runs step plans of a scheduler on this machine.
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/rpc/grpc_log.h"
#include "common/rpc/shutdown.h"
#include "common/telemetry/descriptors.h"
#include "common/telemetry/start.h"
#include "common/tls/grpc/security.h"
#include "expert_service/edge/worker_server.h"
#include "expert_service/engine/worker_host.h"

namespace pregate {
namespace {

absl::Status Run(int argc, char** argv) {
  OptionSet options("pregate-worker", "Runs the backbone for a pregate scheduler");
  WorkerHostOptions host_options;
  WorkerServerOptions server_options;
  TlsOptions tls_options;
  LogOptions log_options;
  DeclareWorkerHostOptions(options, &host_options);
  DeclareWorkerServerOptions(options, &server_options);
  DeclareTlsOptions(options, &tls_options);
  DeclareLogOptions(options, &log_options);
  ASSIGN_OR_RETURN(const OptionSet::Outcome outcome, options.Parse(argc, argv));
  if (outcome == OptionSet::Outcome::kExit) return absl::OkStatus();

  ShutdownSignal shutdown;
  const Log log("worker", log_options);
  LogStart(log, options);
  RaiseDescriptorLimit(log);
  SystemClock clock;
  const GrpcLog grpc_log(&log, &clock);
  ASSIGN_OR_RETURN(const auto security, Security::Load(tls_options, {Role::kWorker}, &log, &clock));
  RETURN_IF_ERROR(CheckAddresses(server_options, *security));
  WorkerCollectives collectives(server_options.collective_host, security.get());
  absl::Status broken;  // the loop's until it has stopped
  ASSIGN_OR_RETURN(const auto host,
                   WorkerHost::Load(host_options, options.ClusterDigest(), &clock, &log,
                                    &collectives, [&](const absl::Status& why) {
                                      broken = why;
                                      shutdown.Request();
                                    }));
  ASSIGN_OR_RETURN(const auto server,
                   WorkerServer::Start(server_options, host_options.model, host.get(), &collectives,
                                       security.get(), &clock, &log));
  shutdown.BeginServing();
  shutdown.Wait();
  log.Info("draining");
  server->Drain();
  return broken;
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::PrepareProcess();
  return pregate::ExitCode("pregate-worker", pregate::Run(argc, argv));
}
