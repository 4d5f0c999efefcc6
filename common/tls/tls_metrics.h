// Until when the certificates in use are valid, for an alert before they are not.
#pragma once

#include <memory>

#include "common/telemetry/metrics.h"
#include "common/tls/tls_files.h"

namespace pregate {

// tls_certificate_expiry_timestamp_seconds{certificate}, in seconds since 1970, of what is in use when
// it is asked for: "own", and of the trusted ones the "authority" that ends first. Files that were
// refused change nothing. The registry keeps `files`.
void AddTlsMetrics(const std::shared_ptr<const TlsFiles>& files, MetricsRegistry* registry);

}  // namespace pregate
