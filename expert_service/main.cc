// pregate-worker: runs step plans of a scheduler on this machine.
#include "expert_service/edge/worker_server.h"

int main(int argc, char** argv) {
  pregate::WorkerServerOptions options;
  return pregate::ServiceMain(
      argc, argv, "worker", "Runs the backbone for a pregate scheduler", pregate::Role::kWorker,
      [&](pregate::OptionSet& set) { pregate::DeclareWorkerServerOptions(set, &options); },
      [&](const pregate::ServiceContext& context) {
        return pregate::WorkerServer::Start(options, context);
      });
}
