// pregate-scheduler: the client API, and the one loop that plans every step.
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/rpc/grpc_log.h"
#include "common/rpc/listen_check.h"
#include "common/rpc/shutdown.h"
#include "common/telemetry/descriptors.h"
#include "common/telemetry/start.h"
#include "common/tls/grpc/security.h"
#include "scheduler_service/edge/scheduler_links.h"
#include "scheduler_service/edge/scheduler_server.h"

namespace pregate {
namespace {

absl::Status Run(int argc, char** argv) {
  OptionSet options("pregate-scheduler", "Serves the client API and plans the workers' steps");
  std::string model_path, model_name;
  SchedulerServerOptions server_options;
  SchedulerLinkOptions link_options;
  TlsOptions tls_options;
  LogOptions log_options;
  options
      .String("model", &model_path, "Checkpoint directory or GGUF file; only its tokenizer is read")
      .Required();
  options.String("model-name", &model_name,
                 "Name of the model in requests and metrics; empty: the last part of --model");
  DeclareSchedulerServerOptions(options, &server_options);
  DeclareSchedulerLinkOptions(options, &link_options);
  DeclareTlsOptions(options, &tls_options);
  DeclareLogOptions(options, &log_options);
  ASSIGN_OR_RETURN(const OptionSet::Outcome outcome, options.Parse(argc, argv));
  if (outcome == OptionSet::Outcome::kExit) return absl::OkStatus();

  ShutdownSignal shutdown;
  const Log log("scheduler", log_options);
  LogStart(log, options);
  RaiseDescriptorLimit(log);
  SystemClock clock;
  const GrpcLog grpc_log(&log, &clock);
  ASSIGN_OR_RETURN(const auto security,
                   Security::Load(tls_options, {Role::kScheduler}, &log, &clock));
  RETURN_IF_ERROR(CheckListenOptions(*security, server_options.listen,
                                     server_options.metrics_listen, server_options.port_file));
  ASSIGN_OR_RETURN(ServedModel model, LoadServedModel(model_path, model_name));
  MetricsRegistry registry(model.name);
  const bool has_router = model.has_routes();
  ASSIGN_OR_RETURN(const auto server, SchedulerServer::Start(
                                          server_options, std::move(model),
                                          [&](const auto& push) {
                                            return MakeGrpcLinks(link_options, has_router, push,
                                                                 *security, &log);
                                          },
                                          &registry, security.get(), &clock, &log));
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
  return pregate::ExitCode("pregate-scheduler", pregate::Run(argc, argv));
}
