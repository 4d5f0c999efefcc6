#include "common/telemetry/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

class FunctionSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FunctionSink(Log::Sink sink) : sink_(std::move(sink)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    sink_(absl::string_view(message.payload.data(), message.payload.size()));
  }
  void flush_() override {}

  const Log::Sink sink_;
};

std::string Quote(absl::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string Timestamp() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone());
}

std::shared_ptr<spdlog::logger> MakeLogger(const LogOptions& options, spdlog::sink_ptr sink) {
  auto logger = std::make_shared<spdlog::logger>("pregate", std::move(sink));
  logger->set_level(spdlog::level::from_str(options.level == "warn" ? "warning" : options.level));
  logger->set_pattern("%v");
  logger->flush_on(spdlog::level::trace);
  return logger;
}

spdlog::level::level_enum SeverityOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

}  // namespace

void DeclareLogOptions(OptionSet& set, LogOptions* options) {
  set.Group("Log");
  set.Choice("log-level", &options->level, {"debug", "info", "warn", "error"},
             "Least severe log lines to write");
  set.Choice("log-format", &options->format, {"text", "json"}, "Form of a log line on stderr");
  set.Group();
}

LogField::LogField(absl::string_view key, double value)
    : key_(key), text_(absl::StrCat(value)), quoted_(!std::isfinite(value)) {}

Log::Log(std::string service, const LogOptions& options)
    : service_(std::move(service)),
      json_(options.format == "json"),
      logger_(MakeLogger(options, std::make_shared<spdlog::sinks::stderr_sink_mt>())) {}

Log::Log(std::string service, const LogOptions& options, Sink sink)
    : service_(std::move(service)),
      json_(options.format == "json"),
      logger_(MakeLogger(options, std::make_shared<FunctionSink>(std::move(sink)))) {}

void Log::Debug(absl::string_view message, Fields fields) const {
  Write(LogLevel::kDebug, message, fields);
}
void Log::Info(absl::string_view message, Fields fields) const {
  Write(LogLevel::kInfo, message, fields);
}
void Log::Warn(absl::string_view message, Fields fields) const {
  Write(LogLevel::kWarning, message, fields);
}
void Log::Error(absl::string_view message, Fields fields) const {
  Write(LogLevel::kError, message, fields);
}

void Log::Write(LogLevel level, absl::string_view message, Fields fields) const {
  const spdlog::level::level_enum severity = SeverityOf(level);
  if (!logger_->should_log(severity)) return;
  const auto name = spdlog::level::to_string_view(severity);
  const absl::string_view level_name(name.data(), name.size());
  std::string line;
  if (json_) {
    absl::StrAppend(&line, "{\"time\":\"", Timestamp(), "\",\"level\":\"", level_name,
                    "\",\"service\":", Quote(service_), ",\"message\":", Quote(message));
    for (const LogField& field : fields) {
      absl::StrAppend(&line, ",", Quote(field.key()), ":",
                      field.quoted() ? Quote(field.text()) : std::string(field.text()));
    }
    line += "}";
  } else {
    absl::StrAppend(&line, Timestamp(), " ", level_name, " ", service_, ": ", message);
    for (const LogField& field : fields) {
      absl::StrAppend(&line, " ", field.key(), "=",
                      field.quoted() ? Quote(field.text()) : std::string(field.text()));
    }
  }
  logger_->log(severity, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace pregate
