#include "common/rpc/port_file.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace pregate {

absl::Status WritePortFile(const std::string& path,
                           const std::map<std::string, std::string>& addresses) {
  if (path.empty()) return absl::OkStatus();
  nlohmann::json json(addresses);
  json["pid"] = getpid();
  const std::string temporary = absl::StrCat(path, ".", getpid());
  std::ofstream file(temporary);
  file << json.dump() << "\n";
  file.close();
  if (!file || std::rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--port-file ", path, " cannot be written"));
  }
  return absl::OkStatus();
}

}  // namespace pregate
