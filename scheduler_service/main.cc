// pregate-scheduler: the client API, and the one loop that plans every step.
#include "common/base/scheduling.h"
#include "common/base/status.h"
#include "scheduler_service/edge/scheduler_links.h"
#include "scheduler_service/edge/scheduler_server.h"

namespace pregate {
namespace {

struct SchedulerProgram {
  std::string model;
  SchedulerServerOptions server;
  SchedulerLinkOptions links;
  bool batch_threads = false;
  // These outlive the server.
  std::optional<MetricsRegistry> registry;
  std::unique_ptr<OtlpExporter> spans;

  void Declare(OptionSet& set) {
    set.String("model", &model, "Checkpoint directory or GGUF file; only its tokenizer is read")
        .Required();
    DeclareSchedulerServerOptions(set, &server);
    DeclareSchedulerLinkOptions(set, &links);
    set.Switch("batch-threads", &batch_threads, kBatchThreadsHelp);
  }
  absl::StatusOr<std::unique_ptr<Service>> Start(const ServiceContext& context) {
    if (batch_threads) RETURN_IF_ERROR(BatchThreads());
    RETURN_IF_ERROR(CheckPortOptions(server.ports, *context.security));
    ASSIGN_OR_RETURN(ServedModel served, LoadServedModel(model, server.ports.model_name));
    registry.emplace(served.name);
    ASSIGN_OR_RETURN(
        spans, OtlpExporter::Start(server.otlp, "pregate-scheduler", &*registry, context.log));
    const bool has_router = served.has_routes();
    const auto make_links = [&](const SchedulerServer::Push& push) {
      return MakeGrpcLinks(links, has_router, push, *context.security, context.log);
    };
    return SchedulerServer::Start(server, std::move(served), make_links, &*registry, spans.get(),
                                  context);
  }
};

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::SchedulerProgram program;
  return pregate::ServiceMain(
      argc, argv, "scheduler", "Serves the client API and plans the workers' steps",
      pregate::Role::kScheduler, [&](pregate::OptionSet& set) { program.Declare(set); },
      [&](const pregate::ServiceContext& context) { return program.Start(context); });
}
