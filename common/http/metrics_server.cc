#include "common/http/metrics_server.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const Address& address,
                                                                    const MetricsRegistry* registry,
                                                                    std::function<bool()> ready,
                                                                    const TlsGate* gate) {
  PREGATE_CHECK(gate != nullptr || address.is_unix() || address.is_loopback(), "plain HTTP on ",
                address.ToString());
  auto get = [registry, ready = std::move(ready)](absl::string_view path) -> HttpAnswer {
    if (path == "/metrics") {
      return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
              .body = registry->Serialize()};
    }
    if (path == "/healthz" && ready()) return {.body = "ready\n"};
    if (path == "/healthz") return {.status = 503, .body = "not ready\n"};
    return {.status = 404, .body = "only /metrics and /healthz\n"};
  };
  auto http = HttpServer::Start(address, std::move(get), gate);
  if (!http.ok()) {
    return absl::Status(http.status().code(), absl::StrCat("metrics: ", http.status().message()));
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(*std::move(http)));
}

}  // namespace pregate
