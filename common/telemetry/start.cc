#include "common/telemetry/start.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/process.h"

namespace pregate {

void LogStart(const Log& log, const OptionSet& options) {
  log.Info("starting",
           {{"version", VersionText()}, {"given", options.ToText(/*given_only=*/true)}});
  log.Debug("options", {{"effective", options.ToText(/*given_only=*/false)}});
  std::string limits;
  for (const Limit& limit : AllLimits()) {
    absl::StrAppend(&limits, limits.empty() ? "" : " ", limit.name, "=", limit.value, limit.unit);
  }
  log.Debug("limits", {{"effective", limits}});
}

int ExitCode(absl::string_view program, const absl::Status& ended) {
  const absl::Status status = ended.ok() ? FlushStandardOutput() : ended;
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s: %s\n", std::string(program).c_str(),
               std::string(status.message()).c_str());
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
      return 2;
    default:
      return 1;
  }
}

std::function<void(const absl::Status& why)> ExitWhenUnreachable(const Log* log) {
  return [log](const absl::Status& why) {
    log->Error("this program's own port cannot be reached: it ends", {{"reason", why.ToString()}});
    std::_Exit(1);  // no drain: what would be drained may be what is stuck
  };
}

std::string ModelNameOf(const std::string& model_path) {
  const std::filesystem::path path = std::filesystem::path(model_path + "/.").parent_path();
  return (path.extension() == ".gguf" ? path.stem() : path.filename()).string();
}

std::string ModelName(const std::string& name, const std::string& model_path) {
  return name.empty() ? ModelNameOf(model_path) : name;
}

}  // namespace pregate
