// How a port that speaks TLS knows itself and its peers, and where it says whom it refused.
#pragma once

#include <memory>

#include "common/telemetry/refusal_log.h"
#include "common/tls/tls_files.h"

namespace pregate {

// A value: whoever checks peers keeps a copy, because a handshake may still run while its server or
// channel goes.
struct TlsGate {
  std::shared_ptr<TlsFiles> files;
  std::shared_ptr<RefusalLog> refusals;
};

}  // namespace pregate
