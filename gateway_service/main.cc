// pregate-gateway: the HTTP APIs that applications already call, in front of one or more schedulers.
#include "absl/strings/str_cat.h"
#include "common/base/gateway_limits.h"
#include "common/base/limits.h"
#include "common/base/scheduling.h"
#include "common/base/status.h"
#include "common/http/metrics_server.h"
#include "common/rpc/channel.h"
#include "common/rpc/port_file.h"
#include "common/telemetry/process_metrics.h"
#include "common/tls/tls_metrics.h"
#include "gateway_service/edge/gateway_server.h"

namespace pregate {
namespace {

using gateway::GatewayOptions;
using gateway::GatewayServer;
using gateway::SchedulerPool;

struct GatewayProgram {
  GatewayOptions gateway{.http_listen = "127.0.0.1:7680"};
  std::string metrics_listen = "127.0.0.1:7681", port_file, model_name;
  std::vector<std::string> schedulers = {"127.0.0.1:7600"};
  absl::Duration drain_timeout = absl::Seconds(30);
  bool batch_threads = false;

  void Declare(OptionSet& set) {
    gateway::DeclareGatewayOptions(set, &gateway);
    set.Group("Addresses");
    set.Strings("schedulers", &schedulers,
                "Addresses of the schedulers; each request goes to the one with the fewest");
    set.String("metrics-listen", &metrics_listen, "Address of /metrics and /healthz");
    set.String("port-file", &port_file, "Write the bound addresses here as JSON");
    set.Group();
    set.String("model-name", &model_name, "Label `model` of metrics; empty: none");
    set.Duration("drain-timeout-s", &drain_timeout, absl::ZeroDuration(), absl::Hours(1),
                 "How long SIGTERM waits for open streams");
    set.Switch("batch-threads", &batch_threads, kBatchThreadsHelp);
  }
};

// Members end in reverse order: the metrics port, which reads them, first.
class GatewayService final : public Service {
 public:
  static absl::StatusOr<std::unique_ptr<Service>> Start(const GatewayProgram& o,
                                                        const ServiceContext& context) {
    if (o.batch_threads) RETURN_IF_ERROR(BatchThreads());
    if (!o.gateway.on()) {
      return absl::InvalidArgumentError("--http-listen is off: there is nothing else to serve");
    }
    ASSIGN_OR_RETURN(const Address http, CheckGatewayOptions(o.gateway));
    ASSIGN_OR_RETURN(const Address metrics,
                     context.security->ParseAddress("metrics-listen", o.metrics_listen));
    ASSIGN_OR_RETURN(auto targets, Targets(o.schedulers, *context.security));
    std::unique_ptr<GatewayService> service(new GatewayService(o));
    ASSIGN_OR_RETURN(service->port_file_, PortFile::Claim(o.port_file));
    ASSIGN_OR_RETURN(ListenSockets sockets, Listen(http));
    ASSIGN_OR_RETURN(service->gateway_,
                     GatewayServer::Start(o.gateway, std::move(sockets), std::move(targets),
                                          &service->registry_, context));
    AddProcessMetrics(&service->registry_);
    if (context.security->encrypted()) {
      AddTlsMetrics(context.security->gate()->files, &service->registry_);
    }
    const auto ready = [g = service->gateway_.get()] { return g->ready(); };
    ASSIGN_OR_RETURN(service->metrics_, MetricsServer::Start(metrics, &service->registry_, ready,
                                                             context.security->gate()));
    const std::string metrics_bound = service->metrics_->bound().ToString();
    RETURN_IF_ERROR(service->port_file_.Write(
        {{"http", service->gateway_->bound().ToString()}, {"metrics", metrics_bound}}));
    context.log->Info("serving", {{"metrics", metrics_bound}});
    return service;
  }
  void Drain() override { gateway_->DrainWithin(drain_timeout_); }

 private:
  explicit GatewayService(const GatewayProgram& o)
      : drain_timeout_(o.drain_timeout), registry_(o.model_name) {}

  static absl::StatusOr<std::vector<SchedulerPool::Target>> Targets(
      const std::vector<std::string>& addresses, const Security& security) {
    if (addresses.empty() || addresses.size() > size_t{kSchedulersMax}) {
      return absl::InvalidArgumentError(absl::StrCat("--schedulers has ", addresses.size(),
                                                     " addresses, not 1 to ", kSchedulersMax));
    }
    std::vector<SchedulerPool::Target> targets;
    for (const std::string& text : addresses) {
      ASSIGN_OR_RETURN(const Address address, security.ParseAddress("schedulers", text));
      targets.push_back({.name = text});
      for (int i = 0; i < kChannelsPerScheduler; ++i) {
        targets.back().channels.push_back(
            MakeChannel(address, kClientMessageBytesMax, security, {Role::kScheduler}));
      }
    }
    return targets;
  }

  const absl::Duration drain_timeout_;
  MetricsRegistry registry_;
  PortFile port_file_;
  std::unique_ptr<GatewayServer> gateway_;
  std::unique_ptr<MetricsServer> metrics_;
};

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::GatewayProgram program;
  return pregate::ServiceMain(
      argc, argv, "gateway", "Serves OpenAI's and Anthropic's HTTP APIs in front of schedulers",
      pregate::Role::kClient, [&](pregate::OptionSet& set) { program.Declare(set); },
      [&](const pregate::ServiceContext& context) {
        return pregate::GatewayService::Start(program, context);
      });
}
