// Reads metrics endpoints over HTTP.
#pragma once

#include <vector>

#include "absl/time/time.h"
#include "cli/top/view.h"
#include "common/config/address.h"

namespace pregate::cli {

// All at once, each within `timeout` and kExpositionBytesMax. One that does not answer is down.
std::vector<SourceSample> FetchAll(const std::vector<Address>& addresses, absl::Duration timeout);

}  // namespace pregate::cli
