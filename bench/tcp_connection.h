// How benchmarks that write their own bytes reach a server.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/base/files.h"

namespace pregate {

// A blocking connection to "127.0.0.1:7601" whose small messages leave at once. InvalidArgument for what is
// no address, UNAVAILABLE with the address and the reason.
absl::StatusOr<UniqueFd> ConnectTcp(const std::string& address);

}  // namespace pregate
