// GET /metrics and GET /healthz: over HTTPS with client certificates, or over plain HTTP on a
// loopback address.
// Not by prometheus-cpp's Exposer: that one asks for 100 KiB thread stacks, which a process linked
// to cuBLAS cannot give (its static TLS alone needs 94 KB).
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "common/config/address.h"
#include "common/http/http_server.h"
#include "common/telemetry/metrics.h"
#include "common/tls/tls_gate.h"

namespace pregate {

class MetricsServer {
 public:
  // `registry` outlives the server. `ready` is called on the server's thread: /healthz answers 200
  // when it says true, else 503. Port 0 takes a free port. With `gate`, which outlives the server,
  // HTTPS: peers need a certificate and a role of the access table (else 403). REQUIRES: without it
  // `address` is loopback.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const Address& address,
                                                              const MetricsRegistry* registry,
                                                              std::function<bool()> ready,
                                                              const TlsGate* gate = nullptr);

  const Address& bound() const { return http_->bound(); }  // with the port that was taken

 private:
  explicit MetricsServer(std::unique_ptr<HttpServer> http) : http_(std::move(http)) {}
  const std::unique_ptr<HttpServer> http_;
};

}  // namespace pregate
