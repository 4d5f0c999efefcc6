// `pregate serve`: router, workers and scheduler in one process, joined by in-process links.
#include <iostream>
#include <memory>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "cli/command.h"
#include "cli/local_links.h"
#include "cli/local_services.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/rpc/grpc_log.h"
#include "common/rpc/listen_check.h"
#include "common/rpc/shutdown.h"
#include "common/telemetry/descriptors.h"
#include "common/telemetry/start.h"
#include "common/tls/grpc/security.h"
#include "expert_service/engine/worker_metrics.h"
#include "scheduler_service/edge/scheduler_server.h"

namespace pregate::cli {
namespace {

struct ServeOptions {
  std::string model_name;
  WorkerHostOptions worker{.kv_cache_bytes = kLocalKvCacheBytes};
  SchedulerServerOptions server;
  TlsOptions tls;
  LogOptions log;
};

void DeclareServe(OptionSet& set, ServeOptions* o) {
  set.String("model", &o->worker.model, "pregate or HF directory, or GGUF file").Required();
  set.String("model-name", &o->model_name,
             "name of the model in requests and metrics; empty: the last part of --model");
  set.Choice("dtype", &o->worker.dtype, {"f32", "bf16"}, "of weights and KV");
  set.Choice("device", &o->worker.device, {"cpu", "cuda"},
             "of the worker; the router stays on CPU");
  set.Int("threads", &o->worker.threads, 0, 1024, "threads", "of each worker; 0: all cores");
  set.Bytes("kv-cache-bytes", &o->worker.kv_cache_bytes, 1 << 16, int64_t{1} << 42,
            "memory of the KV blocks");
  set.Int("workers", &o->worker.world_size, 1, kWorkersMax, "workers",
          "that share the experts, each with --threads and --kv-cache-bytes of its own")
      .Environment("PREGATE_SERVE_WORKERS");  // PREGATE_WORKERS are a scheduler's addresses
  set.Int(
      "expert-slots", &o->worker.expert_slots, 0, kExpertsMax, "experts",
      "whose units a worker keeps on the device at once, the others wait in host memory; 0: all");
  set.Int("seq-slots", &o->worker.seq_slots, 1, 65536, "slots", "sequences open at once");
  DeclareSchedulerServerOptions(set, &o->server);
  DeclareTlsOptions(set, &o->tls);
  DeclareLogOptions(set, &o->log);
}

absl::Status Run(const ServeOptions& o, const OptionSet& set) {
  ShutdownSignal shutdown;
  const Log log("serve", o.log);
  LogStart(log, set);
  RaiseDescriptorLimit(log);
  SystemClock clock;
  const GrpcLog grpc_log(&log, &clock);
  ASSIGN_OR_RETURN(const auto security, Security::Load(o.tls, {Role::kScheduler}, &log, &clock));
  // Before the model: a mistake here must not wait for the weights.
  RETURN_IF_ERROR(
      CheckListenOptions(*security, o.server.listen, o.server.metrics_listen, o.server.port_file));
  ASSIGN_OR_RETURN(ServedModel model, LoadServedModel(o.worker.model, o.model_name));
  MetricsRegistry registry(model.name);
  WorkerHostOptions worker = o.worker;
  worker.step_tokens = o.server.step_tokens;
  ASSIGN_OR_RETURN(const LocalServices services,
                   StartLocalServices(worker, &clock, &registry, &log));
  std::vector<std::unique_ptr<WorkerMetrics>> ports;
  for (const auto& host : services.workers) {
    ports.push_back(
        std::make_unique<WorkerMetrics>(host.get(), &registry, host->rank(), host->memory(),
                                        [host = host.get()] { return host->residency(); }));
  }
  // When the server has ended: a step may still run, whose result would reach `ports`.
  const absl::Cleanup stop_workers = [&] {
    for (const auto& host : services.workers) host->Stop();
  };
  const auto make_links = [&](const PushEvent& push) -> absl::StatusOr<SchedulerLinks> {
    SchedulerLinks links;
    for (const auto& port : ports) {
      const auto rank = static_cast<int32_t>(links.workers.size());
      links.workers.push_back(std::make_unique<LocalWorkerLink>(rank, port.get(), push));
    }
    if (services.router) {
      links.router = std::make_unique<LocalRouterLink>(services.router.get(), push);
    }
    return links;
  };
  ASSIGN_OR_RETURN(const auto server,
                   SchedulerServer::Start(o.server, std::move(model), make_links, &registry,
                                          security.get(), &clock, &log));
  shutdown.BeginServing();
  shutdown.Wait();
  log.Info("draining");
  server->Drain();
  return absl::OkStatus();
}

}  // namespace

int Serve(int argc, const char* const* argv) {
  ServeOptions options;
  OptionSet set("pregate serve", "Runs router, workers and scheduler in one process.");
  DeclareServe(set, &options);
  PARSE_OPTIONS_OR_RETURN(set, "serve", argc, argv);
  const absl::Status status = Run(options, set);
  return status.ok() ? kExitOk : Fail("serve", status);
}

}  // namespace pregate::cli
