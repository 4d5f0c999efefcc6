// Whether a program can listen where it is told to, asked before it loads a model.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/tls/grpc/security.h"

namespace pregate {

// What every service asks before it loads: --listen and --metrics-listen can be parsed and bound,
// and --port-file is no living server's. Errors name the option. Nothing stays bound.
absl::Status CheckListenOptions(const Security& security, const std::string& listen,
                                const std::string& metrics_listen, const std::string& port_file);

}  // namespace pregate
