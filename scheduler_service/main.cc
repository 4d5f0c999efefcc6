// pregate-scheduler: the client API, and the one loop that plans every step.
#include "common/base/status.h"
#include "scheduler_service/edge/scheduler_links.h"
#include "scheduler_service/edge/scheduler_server.h"

namespace pregate {
namespace {

struct SchedulerProgram {
  std::string model;
  SchedulerServerOptions server;
  SchedulerLinkOptions links;
  std::optional<MetricsRegistry> registry;  // outlives the server

  void Declare(OptionSet& set) {
    set.String("model", &model, "Checkpoint directory or GGUF file; only its tokenizer is read")
        .Required();
    DeclareSchedulerServerOptions(set, &server);
    DeclareSchedulerLinkOptions(set, &links);
  }
  absl::StatusOr<std::unique_ptr<Service>> Start(const ServiceContext& context) {
    RETURN_IF_ERROR(CheckPortOptions(server.ports, *context.security));
    ASSIGN_OR_RETURN(ServedModel served, LoadServedModel(model, server.ports.model_name));
    registry.emplace(served.name);
    const bool has_router = served.has_routes();
    const auto make_links = [&](const SchedulerServer::Push& push) {
      return MakeGrpcLinks(links, has_router, push, *context.security, context.log);
    };
    return SchedulerServer::Start(server, std::move(served), make_links, &*registry, context);
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
