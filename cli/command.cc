#include "cli/command.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/printable.h"

namespace pregate::cli {

int Fail(const std::string& command, const absl::Status& status) {
  const std::string message = Printable(status.message(), Layout::kFlow);
  std::fprintf(stderr, "pregate %s: %s\n", command.c_str(), message.c_str());
  return absl::IsInvalidArgument(status) ? kExitUsage : kExitFailed;
}

int FailUsage(const std::string& command, const absl::Status& status) {
  const std::string message = Printable(status.message(), Layout::kFlow);
  std::fprintf(stderr, "pregate %s: %s\nTry: pregate %s --help\n", command.c_str(), message.c_str(),
               command.c_str());
  return kExitUsage;
}

void PrintJson(const nlohmann::json& value) {
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

}  // namespace pregate::cli
