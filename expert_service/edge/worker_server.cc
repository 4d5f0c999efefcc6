#include "expert_service/edge/worker_server.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/telemetry/start.h"
#include "expert_service/edge/attach_service.h"
#include "expert_service/edge/worker_collectives.h"
#include "expert_service/engine/worker_metrics.h"

namespace pregate {
namespace {

constexpr absl::Duration kDrainGrace = absl::Seconds(1);  // the stream is told to end before

}  // namespace

// Members end in reverse order: servers before what their threads use.
struct WorkerServer::State {
  State(const WorkerServerOptions& options, const ServiceContext& context)
      : registry(ModelName(options.ports.model_name, options.worker.model)),
        faults(context.log, context.clock, "stream ended"),
        collectives(options.collective_host, context.security) {}

  MetricsRegistry registry;
  std::unique_ptr<OtlpExporter> spans;  // null: nobody collects them
  std::optional<WorkerMetrics> metrics;
  RefusalLog faults;
  WorkerCollectives collectives;
  LoadedWorker worker;
  std::unique_ptr<AttachService> service;
  std::unique_ptr<ServicePorts> ports;
};

void DeclareWorkerServerOptions(OptionSet& set, WorkerServerOptions* options) {
  DeclareWorkerOptions(set, &options->worker);
  DeclarePortOptions(set, "ExpertWorker", &options->ports);
  DeclareOtlpOptions(set, &options->otlp);
  set.Group("Addresses");
  set.String("collective-host", &options->collective_host,
             "Address of this machine that other workers dial: to meet, where --listen is a "
             "wildcard, and to exchange activations");
  set.Switch("collective-insecure", &options->collective_insecure,
             "Allow a --collective-host beyond loopback: activations travel unencrypted and "
             "unauthenticated between workers, so keep them on a private network");
  set.Group();
}

absl::Status CheckCollectiveHost(const WorkerServerOptions& options) {
  const absl::StatusOr<Address> address =
      ParseAddress(Address{.host = options.collective_host}.ToString());
  if (!address.ok() || address->is_unix() || address->is_wildcard()) {
    return absl::InvalidArgumentError(absl::StrCat("--collective-host: '", options.collective_host,
                                                   "' is no name or address to dial"));
  }
  if (address->is_loopback() || options.collective_insecure) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--collective-host: ", options.collective_host,
                   " is not on this machine, and activations travel unencrypted between workers, "
                   "also with --tls-dir: keep them on a private network and say "
                   "--collective-insecure"));
}

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const WorkerServerOptions& options, const ServiceContext& context) {
  // Before the model: a mistake here must not wait for the weights.
  RETURN_IF_ERROR(CheckPortOptions(options.ports, *context.security));
  RETURN_IF_ERROR(CheckCollectiveHost(options));
  auto state = std::make_unique<State>(options, context);
  ASSIGN_OR_RETURN(state->spans, OtlpExporter::Start(options.otlp, "pregate-worker",
                                                     &state->registry, context.log));
  state->metrics.emplace(&state->registry, context.log, options.worker.rank, state->spans.get());
  ASSIGN_OR_RETURN(state->worker, LoadWorker(options.worker, context.clock, &state->collectives,
                                             &*state->metrics, context.end));
  WorkerEngine* const engine = state->worker.engine.get();
  state->service =
      std::make_unique<AttachService>(engine, state->collectives.service(), &state->faults);
  ASSIGN_OR_RETURN(state->ports,
                   ServicePorts::Open(options.ports,
                                      {.name = "pregate.v1.ExpertWorker",
                                       .handler = state->service.get(),
                                       .message_bytes_max = kServiceMessageBytesMax,
                                       .self_told = state->service->self_told(),
                                       .last_turn = [engine] { return engine->last_progress(); }},
                                      &state->registry, context));
  state->collectives.Open(state->ports->bound());
  return std::unique_ptr<WorkerServer>(new WorkerServer(std::move(state)));
}

WorkerServer::WorkerServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
WorkerServer::~WorkerServer() { Drain(); }

void WorkerServer::Drain() {
  state_->ports->MarkDraining();
  state_->service->Drain();
  state_->ports->Shutdown(kDrainGrace);
  state_->worker.engine->Stop();
}

}  // namespace pregate
