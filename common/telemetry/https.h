// An HTTPS server that demands a client certificate, with certificates that rotate while it runs.
#pragma once

#include <httplib.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/telemetry/timed_http_server.h"
#include "common/telemetry/tls_gate.h"

namespace pregate {

// Each connection takes the files as they are then. Handshakes that are refused are logged. `gate`
// outlives the server.
absl::StatusOr<std::unique_ptr<TimedHttpServer>> MakeHttpsServer(const TlsGate* gate);

// OK or PERMISSION_DENIED, logged: whether the peer of a connection of that server may send
// `request`, by the access table.
absl::Status CheckHttpAccess(const TlsGate& gate, const httplib::Request& request);

}  // namespace pregate
