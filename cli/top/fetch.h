// Reads metrics endpoints over HTTP, or HTTPS with a client certificate.
#pragma once

#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "cli/top/view.h"
#include "common/config/address.h"
#include "common/tls/tls_files.h"

namespace pregate::cli {

// All at once, each within `timeout` and kExpositionBytesMax. One that does not answer is down.
// `tls` null: plain HTTP; else the servers must be schedulers, routers or workers of its trust
// domain, whatever their host names. `cancelled` is asked from another thread; once it is true all
// end at once.
std::vector<SourceSample> FetchAll(const std::vector<Address>& addresses, TlsFiles* tls,
                                   absl::Duration timeout, const std::function<bool()>& cancelled);

}  // namespace pregate::cli
