// How a port that speaks TLS knows itself and its peers, and where it says whom it refused.
#pragma once

#include "common/telemetry/refusal_log.h"
#include "common/tls/tls_files.h"

namespace pregate {

// Borrowed by servers and channels, which it outlives.
struct TlsGate {
  TlsFiles* files = nullptr;
  RefusalLog* refusals = nullptr;
};

}  // namespace pregate
