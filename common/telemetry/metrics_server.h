// GET /metrics and GET /healthz: over HTTPS with client certificates, or over plain HTTP on a
// loopback address.
// cpp-httplib serves, not prometheus-cpp's Exposer: that one asks for 100 KiB thread stacks, which
// a process linked to cuBLAS cannot give (its static TLS alone needs 94 KB).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/config/address.h"
#include "common/telemetry/metrics.h"
#include "common/telemetry/tls_gate.h"

namespace pregate {

// Bounded: kMetricsThreads threads and kMetricsQueueConnections waiting connections; further ones
// wait in the kernel. One request a connection, whose reading and answering take kMetricsTimeoutMs
// each at most, so that neither an idle client nor a slow one holds a thread.
class MetricsServer {
 public:
  // `registry` outlives the server. `ready` is called on the server's threads: /healthz answers 200
  // when it says true, else 503. Port 0 takes a free port. With `gate`, which outlives the server,
  // HTTPS: peers need a certificate and a role of the access table (else 403). REQUIRES: without it
  // `address` is loopback.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const Address& address,
                                                              const MetricsRegistry* registry,
                                                              std::function<bool()> ready,
                                                              const TlsGate* gate = nullptr);
  ~MetricsServer();  // cuts what is open, joins

  const Address& bound() const;  // with the port that was taken

 private:
  struct State;
  explicit MetricsServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate
