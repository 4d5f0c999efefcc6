// pregate-router: names one expert for every token, before the backbone runs.
#include "router_service/edge/router_server.h"

int main(int argc, char** argv) {
  pregate::RouterServerOptions options;
  return pregate::ServiceMain(
      argc, argv, "router", "Names the expert of every token for a pregate scheduler",
      pregate::Role::kRouter,
      [&](pregate::OptionSet& set) { pregate::DeclareRouterServerOptions(set, &options); },
      [&](const pregate::ServiceContext& context) {
        return pregate::RouterServer::Start(options, context);
      });
}
