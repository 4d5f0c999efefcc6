// Tells others where a service listens when it took free ports: `--port-file FILE` gets
// {"listen": "127.0.0.1:43210", "metrics": "127.0.0.1:43211", "pid": 17} once all are bound.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"

namespace pregate {

// Written beside FILE and renamed, so that a reader sees all or nothing. Empty `path`: does
// nothing.
absl::Status WritePortFile(const std::string& path,
                           const std::map<std::string, std::string>& addresses);

}  // namespace pregate
